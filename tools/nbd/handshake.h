// The server's half of the fixed newstyle handshake as a plain state machine: bytes in, bytes out,
// and at its end what was agreed on. No I/O, no clock. (Protocol document, "Handshake phase".)
//
//   client flags -> option -> [option data | skipping | listing] -> option -> ... -> transmission
//   and from each of them -> hang up
//
// What a client can get wrong ends in an error reply that says what; the option's data is consumed,
// so that the next option is understood. Only where the protocol leaves no way to answer is the
// connection ended: unknown client flags, a wrong magic number, NBD_OPT_EXPORT_NAME of an export
// that can't be had, and more than kMaxNbdOptions options.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "tools/nbd/protocol.h"

namespace twofold::nbd {

// How a handshake learns about exports. Both may be called at any time during Advance.
struct ExportDirectory {
  // kNotFound, or another reason why this export can't be had now. What the last call found is what
  // the session serves if the handshake goes on to transmission.
  std::function<absl::StatusOr<ExportInfo>(const std::string& name)> find;
  // Every name that `find` takes, in any order.
  std::function<std::vector<std::string>()> names;
};

// What is shown of an export beside its name, in lists and in NBD_INFO_DESCRIPTION.
std::string DescribeExport(absl::string_view name);

class Handshake {
 public:
  enum class State {
    kClientFlags,
    kOption,        // an option's header is next
    kOptionData,    // its data is next
    kSkipping,      // drops the data of an option whose header was answer enough
    kListing,       // in the middle of the answer to NBD_OPT_LIST
    kTransmission,  // agreed(): what follows are requests
    kHangUp,        // after the output is sent
  };

  struct Agreed {
    std::string export_name;
    ExportInfo info;
    bool structured_replies = false;
    bool base_allocation = false;  // block status may be asked
  };

  explicit Handshake(ExportDirectory exports);

  // Takes one step with the client's bytes that were not consumed so far and returns how many it
  // consumed. Output may have been added: send it before the next step. Where nothing was consumed
  // more bytes are needed, at most kMaxNbdOptionBytes at a time, unless it is `listing()` or
  // `finished()`.
  size_t Advance(absl::Span<const std::byte> input);

  State state() const { return state_; }
  bool listing() const { return state_ == State::kListing; }
  bool finished() const { return state_ == State::kTransmission || state_ == State::kHangUp; }

  // What is to be sent now; empties it. Starts with the greeting. Bounded: a long list comes in
  // pieces.
  std::string TakeOutput() { return std::exchange(output_, {}); }

  // From now on every option is answered with this error: the server shuts down
  // (kErrShutdown), or takes no more clients (kErrPolicy). NBD_OPT_ABORT is still acknowledged.
  void RefuseOptions(OptionReply error, std::string text);

  // In state kTransmission.
  const Agreed& agreed() const { return agreed_; }
  // In state kHangUp: why, for the log; empty after NBD_OPT_ABORT.
  const std::string& hang_up_reason() const { return hang_up_reason_; }

 private:
  using Data = absl::Span<const std::byte>;

  size_t AdvanceClientFlags(Data input);
  size_t AdvanceOption(Data input);
  // Answers an option for which its header is enough; false when its data is needed.
  bool AnswerHeader();
  void AnswerData(Data data);
  void AnswerExportName(Data data);
  void AnswerInfoOrGo(Data data);
  void AnswerMetaContext(Data data);
  void ListMore();

  void Reply(OptionReply type, absl::string_view payload);
  void ReplyError(OptionReply type, absl::string_view text);
  void ReplyExportError(const std::string& name, const absl::Status& status);
  void HangUp(std::string reason);
  void EnterTransmission(std::string name, ExportInfo info);

  ExportDirectory exports_;
  State state_ = State::kClientFlags;
  std::string output_;
  bool no_zeroes_ = false;
  size_t options_ = 0;
  Option option_{};          // being answered; may be a number that has no name
  uint32_t data_bytes_ = 0;  // of it that were not consumed yet
  std::string list_after_;   // the last name listed

  bool refusing_ = false;
  OptionReply refusal_{};
  std::string refusal_text_;

  bool structured_replies_ = false;
  // Of the last NBD_OPT_SET_META_CONTEXT that succeeded; any later one clears it first.
  bool base_allocation_ = false;
  std::string context_export_;

  Agreed agreed_;
  std::string hang_up_reason_;
};

}  // namespace twofold::nbd
