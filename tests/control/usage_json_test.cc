// What is used by what, in the answers that carry it: golden text, and read back.

#include "tools/control/usage_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/control/info_json.h"

namespace twofold::control {
namespace {

using testing::HasSubstr;
using testing::Not;

UsageInfo VolumeUsage() {
  UsageInfo usage;
  usage.set = "a";
  usage.as_of = 1'764'153'727'500'000'000;
  usage.duration_ms = 12;
  usage.volumes = {{.name = "db",
                    .position = {Generation(3), Seq(17)},
                    .present_bytes = 40960,
                    .history_bytes = 12288,
                    .snapshots_own_bytes = 8192,
                    .snapshots = {{"noon", SnapshotId(4), 36864, 8192}}}};
  return usage;
}

UsageInfo PoolUsage() {
  UsageInfo usage = VolumeUsage();
  usage.volumes[0].snapshots.clear();
  usage.sum = UsageInfo::Sum{.live_bytes = 57344,
                             .present_bytes = 40960,
                             .history_bytes = 12288,
                             .to_give_back_bytes = 4096};
  return usage;
}

VolumeInfo Volume() {
  VolumeInfo volume;
  volume.name = "db";
  volume.id = VolumeId(7);
  return volume;
}

TEST(UsageJson, OfAVolumeIsWhatTheDocumentSays) {
  const std::string text = EncodeVolume(Volume(), DaemonInfo(), {VolumeUsage(), ""});
  EXPECT_THAT(
      text,
      HasSubstr(
          R"("usage":{"set":"a","as_of":"2025-11-26T10:42:07.5Z","counted_in_ms":12,)"
          R"("position":"3.17","present_bytes":40960,"history_bytes":12288,)"
          R"("snapshots_own_bytes":8192,"total_bytes":53248,)"
          R"("snapshots":[{"snapshot":"noon","id":4,"shown_bytes":36864,"own_bytes":8192}]})"));
  const absl::StatusOr<VolumeAnswer> answer = DecodeVolume(text);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->usage.usage, VolumeUsage());
  EXPECT_EQ(answer->usage.failed, "");
}

TEST(UsageJson, IsAbsentWhereItWasNotAskedFor) {
  const std::string text = EncodeVolume(Volume(), DaemonInfo());
  EXPECT_THAT(text, Not(HasSubstr("usage")));
  EXPECT_FALSE(DecodeVolume(text)->usage.usage.has_value());
}

TEST(UsageJson, SaysWhyItCouldNotBeCounted) {
  const std::string text = EncodeVolume(Volume(), DaemonInfo(), {std::nullopt, "no set"});
  EXPECT_THAT(text, HasSubstr(R"("usage":null,"usage_failed":"no set")"));
  const absl::StatusOr<VolumeAnswer> answer = DecodeVolume(text);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_FALSE(answer->usage.usage.has_value());
  EXPECT_EQ(answer->usage.failed, "no set");
}

TEST(UsageJson, OfAStatusAddsUpVolumeByVolume) {
  const std::string text = EncodeStatus(PoolInfo(), DaemonInfo(), {}, {PoolUsage(), ""});
  EXPECT_THAT(text, HasSubstr(R"("live_bytes":57344,"present_bytes":40960,"history_bytes":12288,)"
                              R"("to_give_back_bytes":4096,"volumes":[{"name":"db",)"
                              R"("position":"3.17","present_bytes":40960,)"));
  const absl::StatusOr<StatusAnswer> answer = DecodeStatus(text);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->usage.usage, PoolUsage());
  EXPECT_THAT(EncodeStatus(PoolInfo(), DaemonInfo(), {}), HasSubstr(R"("usage":null)"));
}

TEST(UsageJson, OfSnapshotsIsOnlyOfThoseThatWereCounted) {
  SnapshotInfo counted;
  counted.volume = "db";
  counted.name = "noon";
  counted.id = SnapshotId(4);
  SnapshotInfo later = counted;
  later.id = SnapshotId(5);
  const auto answer =
      DecodeSnapshots(EncodeSnapshots({counted, later}, DaemonInfo(), VolumeUsage()));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->at(0).own_bytes, 8192u);
  EXPECT_EQ(answer->at(0).shown_bytes, 36864u);
  EXPECT_EQ(answer->at(1).own_bytes, std::nullopt);
}

}  // namespace
}  // namespace twofold::control
