#include "tools/control/scrub_json.h"

#include <boost/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "storage/runtime/poller.h"
#include "tools/control/info_json.h"
#include "tools/control/json_fields.h"

namespace twofold::control {
namespace json = boost::json;

namespace {

json::value TimeOrNull(WallNanos time) {
  if (time == 0) return nullptr;
  return json::value(FormatTime(time));
}

// Null is 0.
absl::Status TimeFromJson(const json::value& value, WallNanos* time) {
  if (value.is_null()) return absl::OkStatus();
  if (!value.is_string()) return absl::InvalidArgumentError("a time must be text, or null");
  TF_ASSIGN_OR_RETURN(*time, ParseTime(std::string(value.get_string())));
  return absl::OkStatus();
}

json::value ToJson(const std::optional<ProofRecord>& proof, uint64_t age_seconds) {
  if (!proof.has_value()) return nullptr;
  return {{"time", FormatTime(proof->ended)},
          {"age_seconds", age_seconds},
          {"duration_seconds", proof->duration_nanos / kNanosPerSecond},
          {"bytes", proof->bytes},
          {"healed_places", proof->healed_places},
          {"incarnation", proof->incarnation.value()}};
}

json::object ToJson(const ScrubFinding& finding) {
  return {{"segment", finding.segment.value()}, {"block", finding.block}, {"what", finding.what}};
}

json::object ToJson(const Difference& difference) {
  return {{"volume", difference.volume},
          {"snapshot", difference.snapshot},
          {"timeline", difference.timeline.value()},
          {"first_block", difference.range.first.value()},
          {"blocks", difference.range.count.value()},
          {"first_has", difference.first},
          {"second_has", difference.second}};
}

json::object ToJson(const CompareInfo& compare) {
  json::array differences;
  for (const Difference& difference : compare.differences) {
    differences.push_back(ToJson(difference));
  }
  return {{"state", compare.state},
          {"what", compare.what},
          {"started", TimeOrNull(compare.started)},
          {"ended", TimeOrNull(compare.ended)},
          {"first", compare.first},
          {"second", compare.second},
          {"points_done", compare.points_done},
          {"points_total", compare.points_total},
          {"blocks", compare.blocks},
          {"different_blocks", compare.different_blocks},
          {"differences", std::move(differences)}};
}

absl::Status FromJson(const json::value& value, ProofRecord* proof, uint64_t* age_seconds) {
  JsonFields fields(value);
  const json::value* time = fields.Value("time");
  *age_seconds = fields.Uint64("age_seconds");
  proof->duration_nanos = fields.Uint64("duration_seconds") * kNanosPerSecond;
  proof->bytes = fields.Uint64("bytes");
  proof->healed_places = fields.Uint64("healed_places");
  proof->incarnation = Incarnation(fields.Uint64("incarnation"));
  TF_RETURN_IF_ERROR(fields.status());
  return TimeFromJson(*time, &proof->ended);
}

absl::Status FromJson(const json::value& value, ScrubFinding* finding) {
  JsonFields fields(value);
  finding->segment = SegmentNumber(fields.Uint64("segment"));
  finding->block = static_cast<uint32_t>(fields.Uint64("block"));
  finding->what = fields.String("what");
  return fields.status();
}

absl::Status FromJson(const json::value& value, Difference* difference) {
  JsonFields fields(value);
  difference->volume = fields.String("volume");
  difference->snapshot = fields.String("snapshot");
  difference->timeline = TimelineId(fields.Uint64("timeline"));
  difference->range.first = BlockIndex(fields.Uint64("first_block"));
  difference->range.count = BlockCount(fields.Uint64("blocks"));
  difference->first = fields.String("first_has");
  difference->second = fields.String("second_has");
  return fields.status();
}

absl::Status FromJson(const json::value& value, CompareInfo* compare) {
  JsonFields fields(value);
  compare->state = fields.String("state");
  compare->what = fields.String("what");
  const json::value* started = fields.Value("started");
  const json::value* ended = fields.Value("ended");
  compare->first = fields.String("first");
  compare->second = fields.String("second");
  compare->points_done = fields.Uint64("points_done");
  compare->points_total = fields.Uint64("points_total");
  compare->blocks = fields.Uint64("blocks");
  compare->different_blocks = fields.Uint64("different_blocks");
  const json::array* differences = fields.Array("differences");
  TF_RETURN_IF_ERROR(fields.status());
  for (const json::value& difference : *differences) {
    TF_RETURN_IF_ERROR(FromJson(difference, &compare->differences.emplace_back()));
  }
  TF_RETURN_IF_ERROR(TimeFromJson(*started, &compare->started));
  return TimeFromJson(*ended, &compare->ended);
}

absl::Status FromJson(const json::value& value, ScrubStatus* scrubs) {
  JsonFields fields(value);
  const json::array* sets = fields.Array("sets");
  const json::value* compare = fields.Value("compare");
  TF_RETURN_IF_ERROR(fields.status());
  for (const json::value& set : *sets) {
    TF_RETURN_IF_ERROR(ScrubFromJson(set, &scrubs->sets.emplace_back()));
  }
  return FromJson(*compare, &scrubs->compare);
}

}  // namespace

json::object ScrubToJson(const ScrubInfo& scrub) {
  json::array findings;
  for (const ScrubFinding& finding : scrub.findings) findings.push_back(ToJson(finding));
  return {{"set", scrub.set},
          {"state", scrub.state},
          {"what", scrub.what},
          {"started", TimeOrNull(scrub.started)},
          {"ended", TimeOrNull(scrub.ended)},
          {"bytes_done", scrub.bytes_done},
          {"bytes_total", scrub.bytes_total},
          {"bytes_per_second", scrub.bytes_per_second},
          {"seconds_left", scrub.seconds_left},
          {"damaged_places", scrub.damaged_places},
          {"healed_places", scrub.healed_places},
          {"findings", std::move(findings)},
          {"proven_whole", ToJson(scrub.proof, scrub.proof_age_seconds)}};
}

absl::Status ScrubFromJson(const json::value& value, ScrubInfo* scrub) {
  JsonFields fields(value);
  scrub->set = fields.String("set");
  scrub->state = fields.String("state");
  scrub->what = fields.String("what");
  const json::value* started = fields.Value("started");
  const json::value* ended = fields.Value("ended");
  scrub->bytes_done = fields.Uint64("bytes_done");
  scrub->bytes_total = fields.Uint64("bytes_total");
  scrub->bytes_per_second = fields.Uint64("bytes_per_second");
  scrub->seconds_left = fields.Uint64("seconds_left");
  scrub->damaged_places = fields.Uint64("damaged_places");
  scrub->healed_places = fields.Uint64("healed_places");
  const json::array* findings = fields.Array("findings");
  const json::value* proven = fields.Value("proven_whole");
  TF_RETURN_IF_ERROR(fields.status());
  for (const json::value& finding : *findings) {
    TF_RETURN_IF_ERROR(FromJson(finding, &scrub->findings.emplace_back()));
  }
  if (!proven->is_null()) {
    TF_RETURN_IF_ERROR(FromJson(*proven, &scrub->proof.emplace(), &scrub->proof_age_seconds));
  }
  TF_RETURN_IF_ERROR(TimeFromJson(*started, &scrub->started));
  return TimeFromJson(*ended, &scrub->ended);
}

std::string EncodeScrubs(const ScrubStatus& scrubs) {
  json::array sets;
  for (const ScrubInfo& set : scrubs.sets) sets.push_back(ScrubToJson(set));
  return json::serialize(
      json::object{{"sets", std::move(sets)}, {"compare", ToJson(scrubs.compare)}});
}

absl::StatusOr<ScrubStatus> DecodeScrubs(absl::string_view text) {
  ScrubStatus scrubs;
  const absl::StatusOr<json::value> value = ParseJson(text);
  const absl::Status status = value.ok() ? FromJson(*value, &scrubs) : value.status();
  if (!status.ok()) {
    return absl::DataLossError(absl::StrCat(
        "the daemon's answer was not understood (is it another version?): ", status.message()));
  }
  return scrubs;
}

}  // namespace twofold::control
