#include "tools/nbd/handshake.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/bytes.h"
#include "storage/base/limits.h"
#include "tools/nbd/text.h"

namespace twofold::nbd {
namespace {

constexpr size_t kListPieceBytes = size_t{128} << 10;  // of the answer to NBD_OPT_LIST, in one go

template <typename T>
absl::string_view Wire(const T& message) {
  return {reinterpret_cast<const char*>(&message), sizeof(message)};
}

// Reads a length and that many bytes as the protocol's strings must be.
absl::StatusOr<absl::string_view> ReadString(ByteReader& reader, absl::string_view what) {
  const uint32_t length_bytes = reader.ReadU32Be();
  if (reader.failed() || length_bytes > reader.remaining()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the length of the ", what, " runs past the end of the option"));
  }
  const absl::string_view text = reader.ReadString(length_bytes);
  if (length_bytes > kMaxStringBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the ", what, " is longer than ", kMaxStringBytes, " bytes"));
  }
  if (text.find('\0') != absl::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat("the ", what, " contains a NUL"));
  }
  return text;
}

OptionReply ReplyTypeFor(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kResourceExhausted:
      return OptionReply::kErrPolicy;
    case absl::StatusCode::kCancelled:
      return OptionReply::kErrShutdown;
    default:
      return OptionReply::kErrUnknown;
  }
}

// Whether a query of NBD_OPT_LIST_META_CONTEXT or NBD_OPT_SET_META_CONTEXT names base:allocation.
// "base:" is a wildcard in lists and selects nothing.
bool SelectsBaseAllocation(absl::string_view query, bool listing) {
  return query == kBaseAllocation || (listing && query == kBaseNamespace);
}

}  // namespace

std::string DescribeExport(absl::string_view name) {
  const size_t at = name.find('@');
  if (at == absl::string_view::npos) return "Twofold volume";
  return absl::StrCat("read-only snapshot of Twofold volume ", name.substr(0, at));
}

Handshake::Handshake(ExportDirectory exports) : exports_(std::move(exports)) {
  const Greeting greeting{big_uint64_t(kInitMagic), big_uint64_t(kOptionMagic),
                          big_uint16_t(kHandshakeFixedNewstyle | kHandshakeNoZeroes)};
  output_.append(Wire(greeting).data(), sizeof(greeting));
}

void Handshake::RefuseOptions(OptionReply error, std::string text) {
  refusing_ = true;
  refusal_ = error;
  refusal_text_ = std::move(text);
}

size_t Handshake::Advance(absl::Span<const std::byte> input) {
  switch (state_) {
    case State::kClientFlags:
      return AdvanceClientFlags(input);
    case State::kOption:
      return AdvanceOption(input);
    case State::kOptionData: {
      if (input.size() < data_bytes_) return 0;
      state_ = State::kOption;
      AnswerData(input.first(data_bytes_));
      return data_bytes_;
    }
    case State::kSkipping: {
      const size_t skipped = std::min<size_t>(data_bytes_, input.size());
      data_bytes_ -= static_cast<uint32_t>(skipped);
      if (data_bytes_ == 0) state_ = State::kOption;
      return skipped;
    }
    case State::kListing:
      ListMore();
      // At its end goes on at once, so that nothing consumed means that bytes are missing.
      return state_ == State::kListing ? 0 : AdvanceOption(input);
    case State::kTransmission:
    case State::kHangUp:
      return 0;
  }
  return 0;
}

size_t Handshake::AdvanceClientFlags(Data input) {
  ByteReader reader(input);
  const uint32_t flags = reader.ReadU32Be();
  if (reader.failed()) return 0;
  if ((flags & ~(kClientFixedNewstyle | kClientNoZeroes)) != 0) {
    HangUp(absl::StrCat("unknown client flags 0x", absl::Hex(flags)));
    return reader.position();
  }
  // A client that does not set kClientFixedNewstyle may still send any option: only one that
  // understands the replies would.
  no_zeroes_ = (flags & kClientNoZeroes) != 0;
  state_ = State::kOption;
  return reader.position();
}

size_t Handshake::AdvanceOption(Data input) {
  ByteReader reader(input);
  const uint64_t magic = reader.ReadU64Be();
  option_ = static_cast<Option>(reader.ReadU32Be());
  data_bytes_ = reader.ReadU32Be();
  if (reader.failed()) return 0;
  if (magic != kOptionMagic) {
    HangUp("an option without its magic number");
  } else if (++options_ > kMaxNbdOptions) {
    HangUp(absl::StrCat("more than ", kMaxNbdOptions, " options"));
  } else if (!AnswerHeader()) {
    if (data_bytes_ == 0) {
      AnswerData({});
    } else {
      state_ = State::kOptionData;
    }
  } else if (state_ == State::kOption && data_bytes_ > 0) {
    state_ = State::kSkipping;
  }
  return reader.position();
}

bool Handshake::AnswerHeader() {
  // Whatever becomes of it, it replaces what was selected before.
  if (option_ == Option::kSetMetaContext) base_allocation_ = false;

  if (option_ == Option::kAbort) {  // its data is ignored
    Reply(OptionReply::kAck, "");
    HangUp("");
    return true;
  }
  if (refusing_) {
    if (option_ == Option::kExportName) {
      HangUp(refusal_text_);
    } else {
      ReplyError(refusal_, refusal_text_);
    }
    return true;
  }
  switch (option_) {
    case Option::kExportName:
      if (data_bytes_ <= kMaxStringBytes) return false;
      HangUp("the name of the export is too long");
      return true;
    case Option::kList:
    case Option::kStructuredReply:
      if (data_bytes_ > 0) {
        ReplyError(OptionReply::kErrInvalid, "this option takes no data");
      } else if (option_ == Option::kList) {
        list_after_.clear();
        state_ = State::kListing;
      } else {
        structured_replies_ = true;
        Reply(OptionReply::kAck, "");
      }
      return true;
    case Option::kInfo:
    case Option::kGo:
    case Option::kListMetaContext:
    case Option::kSetMetaContext:
      if (data_bytes_ <= kMaxNbdOptionBytes) return false;
      ReplyError(OptionReply::kErrTooBig,
                 absl::StrCat("the option has ", data_bytes_, " bytes of data; at most ",
                              kMaxNbdOptionBytes, " are taken"));
      return true;
    case Option::kStartTls:
      ReplyError(OptionReply::kErrUnsupported, "this server does not speak TLS");
      return true;
    case Option::kAbort:
      break;
  }
  ReplyError(OptionReply::kErrUnsupported,
             absl::StrCat("option ", static_cast<uint32_t>(option_), " is not known here"));
  return true;
}

void Handshake::AnswerData(Data data) {
  switch (option_) {
    case Option::kExportName:
      return AnswerExportName(data);
    case Option::kInfo:
    case Option::kGo:
      return AnswerInfoOrGo(data);
    default:
      return AnswerMetaContext(data);
  }
}

void Handshake::AnswerExportName(Data data) {
  std::string name(AsText(data));
  const absl::StatusOr<ExportInfo> info = exports_.find(name);
  if (!info.ok()) {
    // The protocol has no error reply here.
    return HangUp(absl::StrCat("export ", Quoted(name), ": ", info.status().message()));
  }
  const ExportNameReply reply{
      big_uint64_t(info->size_bytes),
      big_uint16_t(TransmissionFlags(info->read_only, structured_replies_))};
  output_.append(Wire(reply).data(), sizeof(reply));
  if (!no_zeroes_) output_.append(kExportNamePadding, '\0');
  EnterTransmission(std::move(name), *info);
}

void Handshake::AnswerInfoOrGo(Data data) {
  ByteReader reader(data);
  const absl::StatusOr<absl::string_view> name_or = ReadString(reader, "export name");
  if (!name_or.ok()) return ReplyError(OptionReply::kErrInvalid, name_or.status().message());
  const uint16_t requests = reader.ReadU16Be();
  bool wants_name = false;
  bool wants_description = false;
  for (uint16_t i = 0; i < requests && !reader.failed(); ++i) {
    const auto type = static_cast<InfoType>(reader.ReadU16Be());
    wants_name |= type == InfoType::kName;
    wants_description |= type == InfoType::kDescription;
  }
  if (!reader.finished()) {
    return ReplyError(OptionReply::kErrInvalid,
                      "the number of information requests does not fit the option's length");
  }

  std::string name(*name_or);
  const absl::StatusOr<ExportInfo> info = exports_.find(name);
  if (!info.ok()) return ReplyExportError(name, info.status());

  const InfoExport info_export{
      big_uint16_t(static_cast<uint16_t>(InfoType::kExport)), big_uint64_t(info->size_bytes),
      big_uint16_t(TransmissionFlags(info->read_only, structured_replies_))};
  Reply(OptionReply::kInfo, Wire(info_export));
  // Sent unasked too: the maximum is not the protocol's default.
  const InfoBlockSize block_size{big_uint16_t(static_cast<uint16_t>(InfoType::kBlockSize)),
                                 big_uint32_t(kMinimumBlock), big_uint32_t(kBlockSize),
                                 big_uint32_t(kMaxNbdRequestBytes)};
  Reply(OptionReply::kInfo, Wire(block_size));
  if (wants_name) {
    const big_uint16_t type(static_cast<uint16_t>(InfoType::kName));
    Reply(OptionReply::kInfo, absl::StrCat(Wire(type), name));
  }
  if (wants_description) {
    const big_uint16_t type(static_cast<uint16_t>(InfoType::kDescription));
    Reply(OptionReply::kInfo, absl::StrCat(Wire(type), DescribeExport(name)));
  }
  Reply(OptionReply::kAck, "");
  if (option_ == Option::kGo) EnterTransmission(std::move(name), *info);
}

void Handshake::AnswerMetaContext(Data data) {
  const bool listing = option_ == Option::kListMetaContext;
  if (!structured_replies_) {
    return ReplyError(OptionReply::kErrInvalid,
                      "metadata contexts need structured replies: negotiate them first");
  }
  ByteReader reader(data);
  const absl::StatusOr<absl::string_view> name_or = ReadString(reader, "export name");
  if (!name_or.ok()) return ReplyError(OptionReply::kErrInvalid, name_or.status().message());
  const uint32_t queries = reader.ReadU32Be();
  bool selected = listing && queries == 0;  // a list without a query is of everything
  for (uint32_t i = 0; i < queries && !reader.failed(); ++i) {
    const absl::StatusOr<absl::string_view> query = ReadString(reader, "query");
    if (!query.ok()) return ReplyError(OptionReply::kErrInvalid, query.status().message());
    if (query->find(':') == absl::string_view::npos) {
      return ReplyError(OptionReply::kErrInvalid,
                        absl::StrCat("the query ", Quoted(*query), " has no namespace"));
    }
    selected |= SelectsBaseAllocation(*query, listing);
  }
  if (!reader.finished()) {
    return ReplyError(OptionReply::kErrInvalid,
                      "the number of queries does not fit the option's length");
  }

  std::string name(*name_or);
  const absl::StatusOr<ExportInfo> info = exports_.find(name);
  if (!info.ok()) return ReplyExportError(name, info.status());
  if (selected) {
    const big_uint32_t id(listing ? 0 : kBaseAllocationId);
    Reply(OptionReply::kMetaContext, absl::StrCat(Wire(id), kBaseAllocation));
  }
  Reply(OptionReply::kAck, "");
  if (!listing) {
    base_allocation_ = selected;
    context_export_ = std::move(name);
  }
}

void Handshake::ListMore() {
  // Asked anew for each piece, so that a slow reader of a long list keeps only its place.
  std::vector<std::string> names = exports_.names();
  std::sort(names.begin(), names.end());
  auto next = std::upper_bound(names.begin(), names.end(), list_after_);
  while (next != names.end() && output_.size() < kListPieceBytes) {
    const big_uint32_t name_bytes(static_cast<uint32_t>(next->size()));
    Reply(OptionReply::kServer, absl::StrCat(Wire(name_bytes), *next, DescribeExport(*next)));
    list_after_ = *next;
    ++next;
  }
  if (next == names.end()) {
    Reply(OptionReply::kAck, "");
    state_ = State::kOption;
  }
}

void Handshake::Reply(OptionReply type, absl::string_view payload) {
  const OptionReplyHeader header{big_uint64_t(kOptionReplyMagic),
                                 big_uint32_t(static_cast<uint32_t>(option_)),
                                 big_uint32_t(static_cast<uint32_t>(type)),
                                 big_uint32_t(static_cast<uint32_t>(payload.size()))};
  output_.append(Wire(header).data(), sizeof(header));
  output_.append(payload.data(), payload.size());
}

void Handshake::ReplyError(OptionReply type, absl::string_view text) {
  Reply(type, DisplayText(text));
}

void Handshake::ReplyExportError(const std::string& name, const absl::Status& status) {
  if (name.empty() && absl::IsNotFound(status)) {
    return ReplyError(OptionReply::kErrUnknown,
                      "there is no default export; name one, as in nbd://HOST/VOLUME");
  }
  ReplyError(ReplyTypeFor(status), absl::StrCat("export ", Quoted(name), ": ", status.message()));
}

void Handshake::HangUp(std::string reason) {
  state_ = State::kHangUp;
  hang_up_reason_ = std::move(reason);
}

void Handshake::EnterTransmission(std::string name, ExportInfo info) {
  // Contexts that were selected for another export do not count.
  agreed_.base_allocation = base_allocation_ && context_export_ == name;
  agreed_.structured_replies = structured_replies_;
  agreed_.export_name = std::move(name);
  agreed_.info = info;
  state_ = State::kTransmission;
}

}  // namespace twofold::nbd
