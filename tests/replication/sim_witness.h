// A witness in memory. The model: `stored` survives crashes; each swap is atomic and takes a time
// from the seed, and its answer can be lost. After Crash() nothing reaches `stored` any more.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "replication/pair/witness.h"
#include "tests/sim/sim_poller.h"

namespace twofold::sim {

class SimWitness final : public Witness {
 public:
  // `stored` and `poller` outlive the witness. Without a poller it answers at once.
  explicit SimWitness(std::optional<Membership>* stored, SimPoller* poller = nullptr)
      : stored_(stored), poller_(poller) {}

  // The head that uses it dies.
  void Crash() { crashed_ = true; }
  // Its disk is gone, for a time or for good.
  void SetSilent(bool silent) { silent_ = silent; }
  // Some swaps are done and answered with an error (R25).
  void LoseAnswers() { lose_answers_ = true; }
  // What is stored does not verify any more.
  void Damage() { damaged_ = true; }

  const std::string& name() const override { return name_; }

  Task<absl::StatusOr<Membership>> Read() override {
    if (poller_ != nullptr) co_await poller_->Delay(RandomDelay());
    if (crashed_ || silent_) co_return absl::UnavailableError("it does not answer");
    if (damaged_) co_return absl::DataLossError("it is damaged");
    if (!stored_->has_value()) co_return absl::NotFoundError("it was never written");
    co_return **stored_;
  }

  Task<absl::Status> CompareAndSwap(Generation expected_generation, uint64_t expected_version,
                                    Membership next) override {
    if (poller_ != nullptr) co_await poller_->Delay(RandomDelay());
    if (crashed_ || silent_) co_return absl::UnavailableError("it does not answer");
    const Membership current = stored_->value_or(Membership());
    if (current.generation != expected_generation || current.version != expected_version) {
      co_return absl::AbortedError("somebody else changed the membership");
    }
    *stored_ = std::move(next);
    if (poller_ != nullptr) co_await poller_->Delay(RandomDelay());
    if (crashed_ || (lose_answers_ && poller_->random().OneIn(2))) {
      co_return absl::UnavailableError("the answer was lost");
    }
    co_return absl::OkStatus();
  }

  Task<absl::Status> Restore(Membership membership) override {
    if (crashed_ || silent_) co_return absl::UnavailableError("it does not answer");
    if (!damaged_ && stored_->has_value()) co_return absl::AbortedError("it can be read");
    damaged_ = false;
    *stored_ = std::move(membership);
    co_return absl::OkStatus();
  }

  Task<void> Close() override { co_return; }

 private:
  int64_t RandomDelay() { return static_cast<int64_t>(poller_->random().Uniform(200'000)) + 1; }

  std::optional<Membership>* const stored_;
  SimPoller* const poller_;
  std::string name_ = "/sim/witness";
  bool crashed_ = false;
  bool silent_ = false;
  bool damaged_ = false;
  bool lose_answers_ = false;
};

}  // namespace twofold::sim
