#include "tools/nbd/payload_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "storage/io/buffer_pool.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/task_scope.h"
#include "tests/sim/sim_poller.h"

namespace twofold::nbd {
namespace {

using testing::ElementsAre;

using Grant = PayloadBudget::Grant;

// Three connections with 100 bytes of their own each, and 1000 shared, of which one has 600 at
// most.
struct World {
  // What was granted, by name, and in which order.
  void Ask(PayloadBudget::Share& share, size_t bytes, std::string name) {
    scope.Spawn(Wait(this, &share, bytes, std::move(name)));
  }
  static Task<void> Wait(World* world, PayloadBudget::Share* share, size_t bytes,
                         std::string name) {
    Grant grant = co_await share->Acquire(bytes);
    world->order.push_back(name);
    world->grants.emplace(name, std::move(grant));
  }
  void Release(const std::string& name) { EXPECT_EQ(grants.erase(name), 1u); }

  PayloadBudget budget{100, 1000, 600};
  PayloadBudget::Share a{budget};
  PayloadBudget::Share b{budget};
  PayloadBudget::Share c{budget};
  TaskScope scope;
  std::vector<std::string> order;
  std::map<std::string, Grant> grants;
};

void RunTest(Task<void> (*body)(World*)) {
  sim::SimPoller poller(1);
  Executor executor(poller);
  World world;
  executor.Run(body(&world));
  EXPECT_EQ(world.budget.shared_free_bytes(), 1000u);
}

TEST(PayloadBudget, TakesItsOwnFirstAndThenWhatIsShared) {
  World world;
  const Grant own = world.a.TryAcquire(60);
  EXPECT_EQ(world.budget.shared_free_bytes(), 1000u);
  Grant shared = world.a.TryAcquire(60);
  EXPECT_EQ(world.budget.shared_free_bytes(), 940u);
  const Grant own_too = world.a.TryAcquire(40);
  EXPECT_EQ(world.budget.shared_free_bytes(), 940u);
  shared.Release();
  EXPECT_EQ(world.budget.shared_free_bytes(), 1000u);
}

TEST(PayloadBudget, GivesNothingWhereBothAreShort) {
  World world;
  const Grant all = world.b.TryAcquire(1000);
  const Grant own = world.a.TryAcquire(100);
  EXPECT_TRUE(all && own);
  EXPECT_FALSE(world.a.TryAcquire(1));
}

TEST(PayloadBudget, NobodyTakesWhatIsGuaranteedToAnother) {
  World world;
  const Grant all = world.b.TryAcquire(1000);
  const Grant own = world.b.TryAcquire(100);
  EXPECT_FALSE(world.b.TryAcquire(1));
  EXPECT_TRUE(world.a.TryAcquire(100));
}

TEST(PayloadBudget, MovedGrantsGoBackOnce) {
  World world;
  Grant grant = world.a.TryAcquire(500);
  Grant other = std::move(grant);
  grant = std::move(other);
  EXPECT_EQ(world.budget.shared_free_bytes(), 500u);
  grant = Grant();
  EXPECT_EQ(world.budget.shared_free_bytes(), 1000u);
  grant.Release();
  EXPECT_EQ(world.budget.shared_free_bytes(), 1000u);
}

Task<void> ShareInOrder(World* world) {
  world->Ask(world->a, 900, "big");
  world->Ask(world->b, 500, "middle");
  world->Ask(world->a, 150, "small");  // there is room, but others came before
  co_await Yield();
  EXPECT_THAT(world->order, ElementsAre("big"));
  world->Release("big");
  co_await world->scope.Join();
  EXPECT_THAT(world->order, ElementsAre("big", "middle", "small"));
  world->grants.clear();
}

TEST(PayloadBudget, GrantsSharedBytesInTheOrderOfAsking) { RunTest(ShareInOrder); }

Task<void> NoMoreThanItsPart(World* world) {
  world->Ask(world->a, 300, "a1");
  world->Ask(world->a, 300, "a2");
  world->Ask(world->a, 300, "a3");  // there is room, but a has its part
  world->Ask(world->b, 300, "b1");
  co_await Yield();
  EXPECT_THAT(world->order, ElementsAre("a1", "a2", "b1"));
  world->Release("b1");
  co_await Yield();
  EXPECT_THAT(world->order, ElementsAre("a1", "a2", "b1"));
  world->Release("a1");
  co_await world->scope.Join();
  EXPECT_THAT(world->order, ElementsAre("a1", "a2", "b1", "a3"));
  world->grants.clear();
}

TEST(PayloadBudget, GivesAConnectionItsPartAndNoMore) { RunTest(NoMoreThanItsPart); }

Task<void> OneLargerThanItsPart(World* world) {
  world->Ask(world->a, 1000, "a1");
  world->Ask(world->a, 1000, "a2");
  co_await Yield();
  EXPECT_THAT(world->order, ElementsAre("a1"));
  world->Release("a1");
  co_await world->scope.Join();
  EXPECT_THAT(world->order, ElementsAre("a1", "a2"));
  world->grants.clear();
}

TEST(PayloadBudget, GrantsARequestThatIsLargerThanAPartAlone) { RunTest(OneLargerThanItsPart); }

Task<void> TakeTurns(World* world) {
  world->Ask(world->c, 1000, "all");
  world->Ask(world->a, 200, "a1");
  world->Ask(world->a, 200, "a2");
  world->Ask(world->a, 200, "a3");
  world->Ask(world->b, 200, "b1");
  world->Ask(world->b, 200, "b2");
  co_await Yield();
  world->Release("all");
  co_await world->scope.Join();
  EXPECT_THAT(world->order, ElementsAre("all", "a1", "b1", "a2", "b2", "a3"));
  world->grants.clear();
}

TEST(PayloadBudget, LetsWaitingConnectionsTakeTurns) { RunTest(TakeTurns); }

Task<void> OwnDespiteOthers(World* world) {
  world->Ask(world->a, 1000, "all");
  world->Ask(world->a, 500, "more");
  world->Ask(world->b, 100, "own");
  co_await Yield();
  EXPECT_THAT(world->order, ElementsAre("all", "own"));
  world->Ask(world->b, 50, "own again");
  co_await Yield();
  world->Release("own");
  co_await Yield();
  EXPECT_THAT(world->order, ElementsAre("all", "own", "own again"));
  world->Release("all");
  co_await world->scope.Join();
  world->grants.clear();
}

TEST(PayloadBudget, GrantsWhatIsOnesOwnWhoeverWaitsForMore) { RunTest(OwnDespiteOthers); }

Task<void> OneShareInOrder(World* world) {
  world->Ask(world->b, 1000, "all");
  world->Ask(world->a, 80, "first");
  world->Ask(world->a, 90, "second");
  world->Ask(world->a, 10, "third");  // would fit, but must not overtake
  co_await Yield();
  EXPECT_THAT(world->order, ElementsAre("all", "first"));
  world->Release("first");
  co_await Yield();
  EXPECT_THAT(world->order, ElementsAre("all", "first", "second", "third"));
  world->grants.clear();
  co_await world->scope.Join();
}

TEST(PayloadBudget, KeepsTheOrderWithinAConnection) { RunTest(OneShareInOrder); }

TEST(PayloadBudget, ChargesAsTheBufferPoolRounds) {
  EXPECT_EQ(PayloadBudget::ChargeFor(1), 4096u);
  EXPECT_EQ(PayloadBudget::ChargeFor(4096), 4096u);
  EXPECT_EQ(PayloadBudget::ChargeFor(4097), 8192u);
  BufferPool pool(1 << 20);
  for (const size_t bytes : {1, 5000, 70'000, 300'000}) {
    const Buffer buffer = pool.TryAllocate(bytes);
    EXPECT_EQ(pool.used_bytes(), PayloadBudget::ChargeFor(bytes));
  }
}

}  // namespace
}  // namespace twofold::nbd
