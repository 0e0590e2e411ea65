#include "tools/control/info_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/control/status_codes.h"

namespace twofold::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

DaemonInfo Daemon() {
  return {.version = "0.1.0",
          .pid = 42,
          .started = 1'790'000'000'000'000'000,
          .nbd = {"127.0.0.1:10809", "unix:/run/two fold/nbd.sock"},
          .metrics = "127.0.0.1:9464"};
}

VolumeInfo Volume() {
  VolumeInfo volume;
  volume.name = "db";
  volume.id = VolumeId(7);
  volume.size_bytes = uint64_t{10} << 30;
  volume.ack = AckMode::kWritten;
  volume.timeline = TimelineId(9);
  volume.created = 1'790'000'000'500'000'000;
  volume.position = {Generation(3), Seq(17)};
  volume.mounts = 2;
  volume.snapshots = 5;
  volume.state = "online";
  return volume;
}

SnapshotInfo Snapshot() {
  SnapshotInfo snapshot;
  snapshot.volume = "db";
  snapshot.name = "noon";
  snapshot.id = SnapshotId(4);
  snapshot.group = GroupId(2);
  snapshot.timeline = TimelineId(9);
  snapshot.position = {Generation(3), Seq(11)};
  snapshot.created = 1'790'000'000'000'000'001;
  snapshot.size_bytes = 8192;
  return snapshot;
}

// Programs rely on these names: a change here is a change of docs/control-api.md.
TEST(InfoJson, WritesAVolumeAsDocumented) {
  EXPECT_EQ(EncodeVolume(Volume(), Daemon()),
            R"({"name":"db","id":7,"size_bytes":10737418240,"ack":"written",)"
            R"("on_set_loss":"continue","timeline":9,)"
            R"("created":"2026-09-21T14:13:20.5Z","position":"3.17","clients":2,"snapshots":5,)"
            R"("state":"online","uris":["nbd://127.0.0.1:10809/db",)"
            R"("nbd+unix:///db?socket=/run/two%20fold/nbd.sock"]})");
}

TEST(InfoJson, WritesASnapshotAsDocumented) {
  EXPECT_EQ(EncodeSnapshots({Snapshot()}, DaemonInfo()),
            R"({"snapshots":[{"name":"db@noon","volume":"db","snapshot":"noon","id":4,)"
            R"("timeline":9,"position":"3.11","created":"2026-09-21T14:13:20.000000001Z",)"
            R"("size_bytes":8192,"before_rollback":false,"uris":[],"group":2}]})");
}

TEST(InfoJson, ReadsVolumesBack) {
  const auto volumes = DecodeVolumes(EncodeVolumes({Volume(), Volume()}, Daemon()));
  ASSERT_TRUE(volumes.ok()) << volumes.status();
  ASSERT_EQ(volumes->size(), 2u);
  const VolumeInfo& volume = volumes->at(1).info;
  EXPECT_EQ(volume.name, "db");
  EXPECT_EQ(volume.id, VolumeId(7));
  EXPECT_EQ(volume.size_bytes, uint64_t{10} << 30);
  EXPECT_EQ(volume.ack, AckMode::kWritten);
  EXPECT_EQ(volume.created, Volume().created);
  EXPECT_EQ(volume.position, Volume().position);
  EXPECT_EQ(volume.mounts, 2u);
  EXPECT_THAT(volumes->at(1).uris, ElementsAre("nbd://127.0.0.1:10809/db", HasSubstr("nbd+unix")));
}

TEST(InfoJson, ReadsSnapshotsBack) {
  SnapshotInfo alone = Snapshot();
  alone.group = GroupId(0);
  alone.before_rollback = true;
  const auto snapshots = DecodeSnapshots(EncodeSnapshots({Snapshot(), alone}, Daemon()));
  ASSERT_TRUE(snapshots.ok()) << snapshots.status();
  EXPECT_EQ(snapshots->at(0).info.group, GroupId(2));
  EXPECT_EQ(snapshots->at(0).info.created, Snapshot().created);
  EXPECT_EQ(snapshots->at(1).info.group, GroupId(0));
  EXPECT_TRUE(snapshots->at(1).info.before_rollback);
}

TEST(InfoJson, ReadsARollbackBack) {
  const auto kept = DecodeRollback(EncodeRollback("db@a", Snapshot(), Daemon()));
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_EQ(kept->info.name, "noon");
}

TEST(InfoJson, ReadsAStatusBack) {
  PoolInfo pool;
  pool.pool_id = "0123";
  pool.generation = Generation(8);
  pool.membership_version = 9;
  pool.state = "healthy";
  pool.witness = "/w";
  pool.buffer_pool_capacity_bytes = uint64_t{1} << 63;
  ReplicaInfo& replica = pool.replicas.emplace_back();
  replica.set = "a";
  replica.state = "failed";
  replica.reason = "why";
  replica.since = 1'700'000'000'000'000'001;
  replica.next_try = 1'700'000'005'000'000'000;
  replica.newest = 1'699'999'999'000'000'000;
  replica.positions = {{"db", {Generation(3), Seq(17)}}, {"mail", {Generation(3), Seq(4)}}};
  replica.resync = ResyncInfo{"filling", "db", replica.since, 10, 100, 5, 18, 2, replica.since + 7};
  pool.resync_bytes_per_second = 1 << 20;
  replica.damage.found = 3;
  replica.damage.healed = 1;
  DamagedPlace place;
  place.first = {SegmentNumber(7), 12};
  place.count = 2;
  place.where = "/a/log/00000006.seg at byte 49152";
  place.what = "a block fails its checksum";
  place.seen = 1'764'067'327'000'000'000;
  place.times = 4;
  place.why_not = "no other set is in-sync";
  replica.damage.places.push_back(place);
  place.healed = place.seen + 1'500'000'000;
  place.why_not = "";
  replica.damage.places.push_back(place);
  pool.degraded = DegradedInfo{1'764'067'327'000'000'000, {"b"}, "why", "what", "do"};
  const auto status = DecodeStatus(EncodeStatus(pool, Daemon(), {}));
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_EQ(status->pool.generation, Generation(8));
  EXPECT_EQ(status->pool.buffer_pool_capacity_bytes, uint64_t{1} << 63);
  ASSERT_EQ(status->pool.replicas.size(), 1u);
  EXPECT_EQ(status->pool.replicas[0].reason, "why");
  EXPECT_EQ(status->pool.resync_bytes_per_second, pool.resync_bytes_per_second);
  EXPECT_EQ(status->pool.replicas[0].since, replica.since);
  EXPECT_EQ(status->pool.replicas[0].next_try, replica.next_try);
  EXPECT_EQ(status->pool.replicas[0].newest, replica.newest);
  EXPECT_EQ(status->pool.replicas[0].positions, replica.positions);
  EXPECT_EQ(status->pool.replicas[0].resync, replica.resync);
  const absl::StatusOr<PoolInfo> listed = DecodeReplicas(EncodeReplicas(pool));
  ASSERT_TRUE(listed.ok()) << listed.status();
  EXPECT_EQ(listed->resync_bytes_per_second, pool.resync_bytes_per_second);
  EXPECT_EQ(listed->replicas[0].positions, replica.positions);
  const absl::StatusOr<ReplicaInfo> one = DecodeReplica(EncodeReplica(replica));
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ(one->resync, replica.resync);
  EXPECT_EQ(status->pool.replicas[0].damage, replica.damage);
  ASSERT_TRUE(status->pool.degraded.has_value());
  EXPECT_EQ(status->pool.degraded->since, pool.degraded->since);
  EXPECT_EQ(status->pool.degraded->sets, pool.degraded->sets);
  EXPECT_EQ(status->pool.degraded->at_risk, "what");
  EXPECT_EQ(status->pool.degraded->what_to_do, "do");
  EXPECT_EQ(status->daemon.pid, 42u);
  EXPECT_EQ(status->daemon.nbd, Daemon().nbd);
  EXPECT_EQ(status->daemon.metrics, Daemon().metrics);
}

TEST(InfoJson, SaysWhichFieldOfAnAnswerIsWrong) {
  const auto volumes = DecodeVolumes(R"({"volumes":[{"name":"db"}]})");
  EXPECT_TRUE(absl::IsDataLoss(volumes.status()));
  EXPECT_THAT(std::string(volumes.status().message()), HasSubstr("\"id\" is missing"));
  EXPECT_TRUE(absl::IsDataLoss(DecodeStatus("hello").status()));
}

TEST(InfoJson, SkipsFieldsThatItDoesNotKnow) {
  EXPECT_TRUE(DecodeVolumes(R"({"volumes":[],"next":{"a":[1]}})").ok());
}

TEST(InfoJson, KeepsAnErrorsMeaning) {
  const absl::Status status = absl::FailedPreconditionError("clients are connected");
  EXPECT_EQ(DecodeError(409, EncodeError(ErrorFromStatus(status))), status);
  EXPECT_THAT(std::string(DecodeError(502, "<html>").message()), HasSubstr("502"));
}

TEST(StatusCodes, TellUsageFromFailure) {
  EXPECT_EQ(ExitCode(absl::OkStatus()), 0);
  EXPECT_EQ(ExitCode(absl::NotFoundError("")), 1);
  EXPECT_EQ(ExitCode(absl::InvalidArgumentError("")), 2);
}

TEST(StatusCodes, ComeBackFromTheirNames) {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "text");
    const ApiError error = ErrorFromStatus(status);
    EXPECT_GE(error.http_status, 400u);
    EXPECT_EQ(StatusFromError(error.code, error.message), status) << error.code;
  }
  EXPECT_TRUE(absl::IsUnknown(StatusFromError("brand_new", "text")));
}

}  // namespace
}  // namespace twofold::control
