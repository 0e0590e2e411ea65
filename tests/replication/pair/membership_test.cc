#include "replication/pair/membership.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace twofold {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string kPool(32, '9');
const std::string kA(32, 'a');
const std::string kB(32, 'b');
const std::string kC(32, 'c');

Candidate Store(const std::string& set, const std::string& id, const std::string& pool = kPool) {
  return {set, id, pool, "/data/" + set, {}, 0};
}

Membership Current() { return FirstMembership(kPool, {kB, kA}).value(); }

absl::StatusOr<AttachPlan> Plan(const Membership& current, const std::vector<Candidate>& candidates,
                                const std::vector<AbsentSet>& absent = {},
                                const std::string& force_stale = "") {
  return PlanAttach(current, candidates, absent, "/var/lib/witness", force_stale);
}

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
  const AttachPlan plan = Plan(Current(), {Store("a", kA), Store("b", kB)}).value();
  EXPECT_EQ(plan.taken.generation, Generation(1));
  EXPECT_EQ(plan.taken.version, 2u);
  EXPECT_EQ(plan.taken.in_sync, Current().in_sync);
  EXPECT_THAT(plan.use, ElementsAre(0, 1));
  EXPECT_THAT(plan.stale, IsEmpty());
}

TEST(Membership, VersionsAreNeverReused) {  // R21
  Candidate a = Store("a", kA);
  a.recorded.membership_version = 40;
  a.recorded.in_sync = {kA, kB};
  EXPECT_EQ(Plan(Current(), {a, Store("b", kB)})->taken.version, 41u);
}

TEST(Membership, OneThatIsInSyncMayAttachAlone) {
  EXPECT_THAT(Plan(Current(), {Store("b", kB)})->use, ElementsAre(0));
}

TEST(Membership, WithNobodyThereTheMissingAreNamed) {
  const absl::Status status = Plan(Current(), {}, {{"a", "/data/a", "not mounted"}}).status();
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(Message(status), HasSubstr("set a (/data/a): not mounted"));
}

TEST(Membership, AStaleStoreIsNeverUsed) {  // P6
  Membership current = Current();
  current.in_sync = {kA};
  const AttachPlan plan = Plan(current, {Store("b", kB), Store("a", kA)}).value();
  EXPECT_THAT(plan.use, ElementsAre(1));
  EXPECT_THAT(plan.stale, ElementsAre(0));
  const absl::Status status = Plan(current, {Store("b", kB)}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(Message(status), HasSubstr("set b (/data/b, store " + kB + ") is stale"));
  EXPECT_THAT(Message(status), HasSubstr("store " + kA));
}

// What a later record takes away is taken away; what it adds does not count (R21, R23).
TEST(Membership, ALaterRecordOnlyTakesAway) {
  Candidate a = Store("a", kA);
  a.recorded.membership_version = 2;
  a.recorded.in_sync = {kA};
  AttachPlan plan = Plan(Current(), {a, Store("b", kB)}).value();
  EXPECT_THAT(plan.use, ElementsAre(0));
  EXPECT_THAT(plan.stale, ElementsAre(1));

  Membership alone = Current();
  alone.in_sync = {kA};
  a.recorded.in_sync = {kA, kB};  // b was about to join
  plan = Plan(alone, {a, Store("b", kB)}).value();
  EXPECT_THAT(plan.use, ElementsAre(0));
  EXPECT_THAT(plan.stale, ElementsAre(1));
}

// Then b may have joined, and gone on alone since: the witness would be a copy from the past (R25).
TEST(Membership, AJoinerThatTheWitnessDoesNotKnowMustBeThere) {
  Membership alone = Current();
  alone.in_sync = {kA};
  Candidate a = Store("a", kA);
  a.recorded.membership_version = 2;
  a.recorded.in_sync = {kA, kB};
  EXPECT_TRUE(absl::IsFailedPrecondition(Plan(alone, {a}).status()));
}

TEST(Membership, ForceTakesAStaleOneOnlyWhileNobodyIsInSync) {
  Membership current = Current();
  current.in_sync = {kA};
  const AttachPlan plan = Plan(current, {Store("b", kB)}, {}, "b").value();
  EXPECT_TRUE(plan.forced);
  EXPECT_THAT(plan.use, ElementsAre(0));
  EXPECT_TRUE(absl::IsFailedPrecondition(
      Plan(current, {Store("a", kA), Store("b", kB)}, {}, "b").status()));
  EXPECT_TRUE(absl::IsNotFound(Plan(current, {Store("b", kB)}, {}, "a").status()));
}

TEST(Membership, AHalfFilledStoreIsNotEvenForced) {  // R4
  Membership current = Current();
  current.in_sync = {kA};
  Candidate b = Store("b", kB);
  b.resyncing = true;
  EXPECT_TRUE(absl::IsFailedPrecondition(Plan(current, {b}, {}, "b").status()));
  current.in_sync = {kA, kB};
  EXPECT_THAT(Plan(current, {Store("a", kA), b})->use, ElementsAre(0));
}

TEST(Membership, ForeignStoresAreRefused) {
  EXPECT_TRUE(
      absl::IsFailedPrecondition(Plan(Current(), {Store("a", kA), Store("b", kC)}).status()));
  EXPECT_TRUE(
      absl::IsFailedPrecondition(Plan(Current(), {Store("a", kA), Store("b", kB, kC)}).status()));
}

TEST(Membership, ACopiedDirectoryIsNotASecondReplica) {
  const absl::Status status = Plan(Current(), {Store("a", kA), Store("b", kA)}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(Message(status), HasSubstr("twice"));
}

TEST(Membership, BothStoresInOneSetAreRefused) {
  EXPECT_TRUE(
      absl::IsFailedPrecondition(Plan(Current(), {Store("a", kA), Store("a", kB)}).status()));
}

TEST(Membership, AWitnessFromThePastIsNoticed) {  // R20, R25
  Candidate a = Store("a", kA);
  a.recorded.sealed = Generation(1);  // the witness has 0
  const absl::Status status = Plan(Current(), {a, Store("b", kB)}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(Message(status), HasSubstr("copy from the past"));
}

TEST(Membership, AnotherHeadAtWorkIsNoticed) {
  const Membership taken = Plan(Current(), {Store("a", kA)})->taken;
  SealReport report;
  report.membership_version = taken.version - 1;
  EXPECT_TRUE(CheckReport(taken, Store("a", kA), report, "w").ok());
  report.membership_version = taken.version;
  EXPECT_TRUE(absl::IsFailedPrecondition(CheckReport(taken, Store("a", kA), report, "w")));
}

TEST(Membership, WithoutTheWitnessTheHighestRecordCounts) {  // R22
  Candidate a = Store("a", kA);
  a.recorded = {Generation(4), 9, {kA}, {kA, kB}};
  Candidate b = Store("b", kB);
  b.recorded = {Generation(3), 7, {kA, kB}, {kA, kB}};
  const Membership membership = MembershipWithoutWitness({b, a}).value();
  EXPECT_EQ(membership.generation, Generation(4));
  EXPECT_EQ(membership.version, 9u);
  EXPECT_THAT(membership.in_sync, ElementsAre(kA));
  // Either alone could be the one that does not know.
  EXPECT_TRUE(absl::IsUnavailable(MembershipWithoutWitness({a}).status()));
  EXPECT_TRUE(absl::IsUnavailable(MembershipWithoutWitness({b}).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(
      MembershipWithoutWitness({Store("a", kA), Store("b", kB)}).status()));
}

TEST(Membership, RemembersSinceWhenItIsDegraded) {
  const Membership degraded = WithInSync(Current(), {kA}, 2, 1000);
  EXPECT_EQ(degraded.degraded_since, 1000);
  EXPECT_EQ(WithInSync(degraded, {kA}, 3, 2000).degraded_since, 1000);
  EXPECT_EQ(WithInSync(degraded, {kB, kA}, 3, 2000).degraded_since, 0);
}

TEST(Membership, AReplacementTakesThePlaceForGood) {  // R22
  const Membership degraded = WithInSync(Current(), {kB}, 2, 1000);
  const Membership replaced = WithReplacement(degraded, kA, kC, 3);
  EXPECT_THAT(replaced.configured, ElementsAre(kB, kC));
  EXPECT_THAT(replaced.in_sync, ElementsAre(kB));
  EXPECT_EQ(replaced.degraded_since, 1000);
}

}  // namespace
}  // namespace twofold
