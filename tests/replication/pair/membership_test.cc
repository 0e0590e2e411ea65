#include "replication/pair/membership.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace twofold {
namespace {

using ::testing::HasSubstr;

const std::string kPool(32, '9');
const std::string kA(32, 'a');
const std::string kB(32, 'b');
const std::string kC(32, 'c');

Candidate Store(const std::string& set, const std::string& id, const std::string& pool = kPool) {
  return {set, id, pool, "/data/" + set};
}

Membership Current() { return FirstMembership(kPool, {kB, kA}).value(); }

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST(Membership, TheFirstOneHasEverybodyInSync) {
  const Membership first = Current();
  EXPECT_EQ(first.generation, Generation(0));
  EXPECT_EQ(first.version, 1u);
  EXPECT_THAT(first.in_sync, testing::ElementsAre(kA, kB));
  EXPECT_EQ(first.configured, first.in_sync);
}

TEST(Membership, RefusesIdsThatAreNone) {
  EXPECT_TRUE(absl::IsInvalidArgument(FirstMembership("x", {kA, kB}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(FirstMembership(kPool, {kA, "b"}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(FirstMembership(kPool, {kA, kA}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(FirstMembership(kPool, {kA}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(FirstMembership(kPool, {kA, std::string(32, 'B')}).status()));
}

TEST(Membership, AttachingTakesTheNextGenerationAndVersion) {
  const Membership next = NextForAttach(Current());
  EXPECT_EQ(next.generation, Generation(1));
  EXPECT_EQ(next.version, 2u);
  EXPECT_EQ(next.in_sync, Current().in_sync);
}

TEST(Membership, AllStoresThereMayAttach) {
  EXPECT_TRUE(CheckCandidates(Current(), {Store("a", kA), Store("b", kB)}, "w").ok());
}

TEST(Membership, AMissingStoreIsNamedWithWhatToDo) {  // P6, R22
  const absl::Status status = CheckCandidates(Current(), {Store("a", kA)}, "w");
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(Message(status), HasSubstr("missing is store " + kB));
  EXPECT_THAT(Message(status), HasSubstr("--set"));
}

TEST(Membership, AStaleStoreIsRefused) {  // P6
  Membership current = Current();
  current.in_sync = {kA};
  const absl::Status status =
      CheckCandidates(current, {Store("a", kA), Store("b", kB)}, "/var/lib/witness");
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(Message(status), HasSubstr("set b (/data/b, store " + kB + ") is stale"));
  EXPECT_THAT(Message(status), HasSubstr("/var/lib/witness"));
}

// Also the one that is in-sync may not go on alone while the other is configured (R22).
TEST(Membership, TheInSyncStoreAloneIsRefusedWhileAnotherIsConfigured) {
  Membership current = Current();
  current.in_sync = {kA};
  EXPECT_TRUE(absl::IsUnavailable(CheckCandidates(current, {Store("a", kA)}, "w")));
}

TEST(Membership, ForeignStoresAreRefused) {
  EXPECT_TRUE(absl::IsFailedPrecondition(
      CheckCandidates(Current(), {Store("a", kA), Store("b", kC)}, "w")));
  EXPECT_TRUE(absl::IsFailedPrecondition(
      CheckCandidates(Current(), {Store("a", kA), Store("b", kB, kC)}, "w")));
}

TEST(Membership, ACopiedDirectoryIsNotASecondReplica) {
  const absl::Status status = CheckCandidates(Current(), {Store("a", kA), Store("b", kA)}, "w");
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(Message(status), HasSubstr("twice"));
}

TEST(Membership, BothStoresInOneSetAreRefused) {
  EXPECT_TRUE(absl::IsFailedPrecondition(
      CheckCandidates(Current(), {Store("a", kA), Store("a", kB)}, "w")));
}

TEST(Membership, AWitnessFromThePastIsNoticed) {  // R21, R25
  Membership current = Current();
  current.version = 4;
  const Membership taken = NextForAttach(current);
  SealReport report;
  report.membership_version = 4;
  EXPECT_TRUE(CheckReport(taken, Store("a", kA), report, "w").ok());
  report.membership_version = 5;
  const absl::Status status = CheckReport(taken, Store("a", kA), report, "w");
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(Message(status), HasSubstr("version 5"));
}

}  // namespace
}  // namespace twofold
