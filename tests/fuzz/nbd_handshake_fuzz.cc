// A client's bytes into the handshake, cut into pieces of any size. It must consume no more than it
// was given, stay within its bounds, and understand the same whatever the cuts.
//
// The first byte chooses how the rest is cut.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "tools/nbd/handshake.h"

namespace {

using twofold::nbd::ExportDirectory;
using twofold::nbd::ExportInfo;
using twofold::nbd::Handshake;

struct Outcome {
  Handshake::State state;
  std::string output;
  std::string export_name;
  bool base_allocation = false;
  bool operator==(const Outcome&) const = default;
};

Outcome Run(absl::Span<const std::byte> input, size_t step_bytes) {
  Handshake handshake(ExportDirectory{[](const std::string& name) -> absl::StatusOr<ExportInfo> {
                                        if (name == "vol")
                                          return ExportInfo{uint64_t{1} << 30, false};
                                        if (name == "vol@s") return ExportInfo{4096, true};
                                        return absl::NotFoundError(name);
                                      },
                                      [] { return std::vector<std::string>{"vol", "vol@s"}; }});
  Outcome outcome;
  outcome.output = handshake.TakeOutput();
  size_t begin = 0;
  for (size_t end = 0; !handshake.finished();) {
    const size_t consumed = handshake.Advance(input.subspan(begin, end - begin));
    TF_CHECK_LE(consumed, end - begin);
    begin += consumed;
    outcome.output += handshake.TakeOutput();
    if (consumed > 0 || handshake.listing()) continue;
    TF_CHECK_LE(end - begin, twofold::kMaxNbdOptionBytes);
    if (end == input.size()) break;
    end += std::min(step_bytes, input.size() - end);
  }
  outcome.state = handshake.state();
  if (outcome.state == Handshake::State::kTransmission) {
    outcome.export_name = handshake.agreed().export_name;
    outcome.base_allocation = handshake.agreed().base_allocation;
    TF_CHECK(!outcome.base_allocation || handshake.agreed().structured_replies);
  }
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const absl::Span<const std::byte> input(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
  const Outcome whole = Run(input, input.size() + 1);
  TF_CHECK(whole == Run(input, 1 + data[0] % 64));
  return 0;
}
