// A witness in memory. The model: `stored` survives crashes; each swap is atomic, and its answer
// can be lost.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "replication/pair/witness.h"

namespace twofold::sim {

class SimWitness final : public Witness {
 public:
  // `stored` outlives the witness.
  explicit SimWitness(std::optional<Membership>* stored) : stored_(stored) {}

  const std::string& name() const override { return name_; }

  Task<absl::StatusOr<Membership>> Read() override {
    if (!stored_->has_value()) co_return absl::NotFoundError("it was never written");
    co_return **stored_;
  }

  Task<absl::Status> CompareAndSwap(Generation expected_generation, uint64_t expected_version,
                                    Membership next) override {
    const Membership current = stored_->value_or(Membership());
    if (current.generation != expected_generation || current.version != expected_version) {
      co_return absl::AbortedError("somebody else changed the membership");
    }
    *stored_ = std::move(next);
    co_return absl::OkStatus();
  }

  Task<void> Close() override { co_return; }

 private:
  std::optional<Membership>* const stored_;
  std::string name_ = "/sim/witness";
};

}  // namespace twofold::sim
