#include "tools/control/latency_json.h"

#include <boost/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/status_macros.h"
#include "tools/control/json_fields.h"

namespace twofold::control {
namespace {

namespace json = boost::json;

json::object ToJson(const StageLatency& latency, bool buckets) {
  const LatencyHistogram& histogram = latency.histogram;
  json::object object = {{"stage", latency.stage},
                         {"set", latency.set},
                         {"count", histogram.count()},
                         {"sum_ns", histogram.sum()},
                         {"mean_ns", histogram.mean()},
                         {"p50_ns", histogram.Percentile(50)},
                         {"p90_ns", histogram.Percentile(90)},
                         {"p99_ns", histogram.Percentile(99)},
                         {"p99_9_ns", histogram.Percentile(99.9)},
                         {"max_ns", histogram.max()}};
  if (!buckets) return object;
  json::array pairs;
  for (size_t i = 0; i < LatencyHistogram::kBuckets; ++i) {
    if (histogram.bucket(i) == 0) continue;
    pairs.push_back(json::array{LatencyHistogram::BucketBegin(i), histogram.bucket(i)});
  }
  object["buckets"] = std::move(pairs);
  return object;
}

// A bucket is named by its first value.
absl::Status ReadBucket(const json::value& pair, LatencyHistogram* histogram) {
  const json::array* array = pair.if_array();
  if (array == nullptr || array->size() != 2 || !(*array)[0].is_number() ||
      !(*array)[1].is_number()) {
    return absl::InvalidArgumentError("a bucket is not two numbers");
  }
  boost::system::error_code error;
  const auto begin = (*array)[0].to_number<int64_t>(error);
  if (error) return absl::InvalidArgumentError("a bucket's beginning is out of range");
  const auto count = (*array)[1].to_number<uint64_t>(error);
  if (error) return absl::InvalidArgumentError("a bucket's count is out of range");
  const size_t bucket = LatencyHistogram::BucketOf(begin);
  if (LatencyHistogram::BucketBegin(bucket) != begin) {
    return absl::InvalidArgumentError(absl::StrCat("no bucket begins at ", begin));
  }
  histogram->AddBucket(bucket, count);
  return absl::OkStatus();
}

absl::Status FromJson(const json::value& value, StageLatency* latency) {
  JsonFields fields(value);
  latency->stage = fields.String("stage");
  latency->set = fields.String("set");
  const uint64_t sum = fields.Uint64("sum_ns");
  const uint64_t max = fields.Uint64("max_ns");
  const json::array* buckets = fields.Array("buckets");
  TF_RETURN_IF_ERROR(fields.status());
  for (const json::value& pair : *buckets) {
    TF_RETURN_IF_ERROR(ReadBucket(pair, &latency->histogram));
  }
  latency->histogram.SetSums(static_cast<int64_t>(sum), static_cast<int64_t>(max));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<StageLatency>> Decode(absl::string_view text) {
  TF_ASSIGN_OR_RETURN(const json::value document, ParseJson(text));
  JsonFields fields(document);
  const json::array* stages = fields.Array("stages");
  TF_RETURN_IF_ERROR(fields.status());
  std::vector<StageLatency> latencies;
  for (const json::value& stage : *stages) {
    TF_RETURN_IF_ERROR(FromJson(stage, &latencies.emplace_back()));
  }
  return latencies;
}

}  // namespace

json::array LatencyToJson(const std::vector<StageLatency>& latencies, bool buckets) {
  json::array array;
  for (const StageLatency& latency : latencies) array.push_back(ToJson(latency, buckets));
  return array;
}

std::string EncodeLatency(const std::vector<StageLatency>& latencies) {
  return json::serialize(json::object{{"stages", LatencyToJson(latencies, /*buckets=*/true)}});
}

absl::StatusOr<std::vector<StageLatency>> DecodeLatency(absl::string_view text) {
  absl::StatusOr<std::vector<StageLatency>> latencies = Decode(text);
  if (latencies.ok()) return latencies;
  return absl::DataLossError(
      absl::StrCat("the daemon's answer is not understood: ", latencies.status().message()));
}

}  // namespace twofold::control
