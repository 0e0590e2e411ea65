#include "replication/volume/on_set_loss.h"

#include "absl/strings/str_cat.h"

namespace twofold {

const char* OnSetLossName(OnSetLoss choice) {
  return choice == OnSetLoss::kBlock ? "block" : "continue";
}

absl::StatusOr<OnSetLoss> ParseOnSetLoss(const std::string& text) {
  for (const OnSetLoss choice : {OnSetLoss::kContinue, OnSetLoss::kBlock}) {
    if (text == OnSetLossName(choice)) return choice;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" is nothing to do on the loss of a set; give continue or block"));
}

}  // namespace twofold
