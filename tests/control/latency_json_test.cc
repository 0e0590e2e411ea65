#include "tools/control/latency_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "tools/control/metrics.h"

namespace twofold::control {
namespace {

using testing::HasSubstr;

std::vector<StageLatency> TwoStages() {
  std::vector<StageLatency> stages = {{"log", "a", {}}, {"reply", "", {}}};
  for (const int64_t nanos : {5'000, 300'000, 300'001, 9'000'000}) stages[0].histogram.Add(nanos);
  return stages;
}

TEST(LatencyJson, ComesBackWhole) {
  const std::vector<StageLatency> stages = TwoStages();
  const auto decoded = DecodeLatency(EncodeLatency(stages));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  ASSERT_EQ(decoded->size(), stages.size());
  for (size_t i = 0; i < stages.size(); ++i) {
    const LatencyHistogram& sent = stages[i].histogram;
    const LatencyHistogram& got = (*decoded)[i].histogram;
    EXPECT_EQ((*decoded)[i].stage, stages[i].stage);
    EXPECT_EQ((*decoded)[i].set, stages[i].set);
    EXPECT_EQ(got.count(), sent.count());
    EXPECT_EQ(got.sum(), sent.sum());
    EXPECT_EQ(got.max(), sent.max());
    for (size_t b = 0; b < LatencyHistogram::kBuckets; ++b) {
      ASSERT_EQ(got.bucket(b), sent.bucket(b)) << b;
    }
  }
}

TEST(LatencyJson, RefusesWhatIsNoHistogram) {
  const std::string head = R"({"stages": [{"stage": "x", "set": "", "sum_ns": 1, "max_ns": 1, )";
  for (const char* buckets :
       {R"("buckets": [[1, 2]]}]})", R"("buckets": [[64]]}]})", R"("buckets": [[64, -1]]}]})",
        R"("buckets": [3]}]})", R"("buckets": 3}]})", R"("bucket": []}]})"}) {
    EXPECT_TRUE(absl::IsDataLoss(DecodeLatency(head + buckets).status())) << buckets;
  }
  EXPECT_TRUE(DecodeLatency(head + R"("buckets": [[64, 1]]}]})").ok());
  EXPECT_TRUE(absl::IsDataLoss(DecodeLatency("[]").status()));
}

TEST(Metrics, CountsUpTheBucketsOfAHistogram) {
  const std::string text = EncodeMetrics({}, {}, nullptr, TwoStages());
  const std::string labels = R"(twofold_latency_seconds_bucket{stage="log",set="a",le=)";
  EXPECT_THAT(text, HasSubstr(labels + "\"4.096e-06\"} 0\n"));
  EXPECT_THAT(text, HasSubstr(labels + "\"8.192e-06\"} 1\n"));
  EXPECT_THAT(text, HasSubstr(labels + "\"0.000524288\"} 3\n"));
  EXPECT_THAT(text, HasSubstr(labels + "\"0.016777216\"} 4\n"));
  EXPECT_THAT(text, HasSubstr(labels + "\"+Inf\"} 4\n"));
  EXPECT_THAT(text,
              HasSubstr("twofold_latency_seconds_sum{stage=\"log\",set=\"a\"} 0.009605001\n"));
  EXPECT_THAT(text, HasSubstr("twofold_latency_seconds_count{stage=\"reply\",set=\"\"} 0\n"));
}

TEST(Metrics, SaysHowSetsAre) {
  PoolInfo pool;
  pool.state = "degraded";
  pool.degraded.emplace();
  pool.replicas.resize(2);
  pool.replicas[0].set = "a";
  pool.replicas[0].state = "in-sync";
  pool.replicas[0].capacity_bytes = 100 * 4096;
  pool.replicas[0].used_bytes = 10 * 4096;
  pool.replicas[0].live_bytes = 4096;
  pool.replicas[0].log_written_bytes = 8192;
  pool.replicas[0].map_written_bytes = 777;
  pool.replicas[0].moved_bytes = 12288;
  pool.replicas[0].checkpoint_running = true;
  pool.replicas[0].reclaim_jobs = 3;
  pool.replicas[1].set = "b\"\\\n";
  pool.replicas[1].state = "missing";
  const std::string text = EncodeMetrics(pool, {}, nullptr, {});
  EXPECT_THAT(text, HasSubstr("\ntwofold_degraded 1\n"));
  EXPECT_THAT(text, HasSubstr("\ntwofold_healthy 0\n"));
  EXPECT_THAT(text, HasSubstr("\ntwofold_set_in_sync{set=\"a\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("\ntwofold_set_in_sync{set=\"b\\\"\\\\\\n\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("\ntwofold_set_live_bytes{set=\"a\"} 4096\n"));
  EXPECT_THAT(text, HasSubstr("\ntwofold_set_to_clean_bytes{set=\"a\"} 36864\n"));
  EXPECT_THAT(text, HasSubstr("\ntwofold_set_free_bytes{set=\"a\"} 368640\n"));
  EXPECT_THAT(text, HasSubstr("\ntwofold_set_log_written_bytes_total{set=\"a\"} 8192\n"));
  EXPECT_THAT(text, HasSubstr("\ntwofold_set_map_written_bytes_total{set=\"a\"} 777\n"));
  EXPECT_THAT(text, HasSubstr("\ntwofold_set_moved_bytes_total{set=\"a\"} 12288\n"));
  EXPECT_THAT(text, HasSubstr("\ntwofold_set_checkpoint_running{set=\"a\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("\ntwofold_set_clean_running{set=\"a\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("\ntwofold_set_reclaim_jobs{set=\"a\"} 3\n"));
  EXPECT_TRUE(absl::EndsWith(text, "\n"));
}

TEST(Metrics, AResyncThatHasEndedIsNotRunning) {
  PoolInfo pool;
  pool.replicas.resize(2);
  for (ReplicaInfo& set : pool.replicas) {
    set.resync.emplace();
    set.resync->bytes_done = 5;
    set.resync->bytes_total = 7;
  }
  pool.replicas[0].set = "a";
  pool.replicas[1].set = "b";
  pool.replicas[1].resync->ended = 1;
  const std::string text = EncodeMetrics(pool, {}, nullptr, {});
  EXPECT_THAT(text, HasSubstr("\ntwofold_set_resync_running{set=\"a\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("\ntwofold_set_resync_done_bytes{set=\"a\"} 5\n"));
  EXPECT_THAT(text, HasSubstr("\ntwofold_set_resync_total_bytes{set=\"a\"} 7\n"));
  EXPECT_THAT(text, HasSubstr("\ntwofold_set_resync_running{set=\"b\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("\ntwofold_set_resync_done_bytes{set=\"b\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("\ntwofold_set_resync_total_bytes{set=\"b\"} 0\n"));
}

}  // namespace
}  // namespace twofold::control
