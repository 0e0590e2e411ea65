#include "replication/pair/witness_codec.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "replication/pair/membership.h"
#include "storage/base/bytes.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"

namespace twofold {
namespace {

constexpr absl::string_view kMagic = "twofold-witness ";
constexpr absl::string_view kFirstLine = "twofold-witness 1";
constexpr size_t kLines = 8;

std::string ChecksumLine(absl::string_view before) {
  return absl::StrFormat("crc32c %08x\n", Crc32c(AsBytes(before)));
}

absl::Status Damaged(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("the witness file is damaged: ", what));
}

// The numbers and ids are compared with their own encoding afterwards, so that leading zeros and
// the like need no rules of their own here.
bool TakeNumber(absl::string_view line, absl::string_view name, uint64_t* value) {
  return absl::ConsumePrefix(&line, name) && absl::SimpleAtoi(line, value);
}

bool TakeIds(absl::string_view line, absl::string_view name, std::vector<std::string>* ids) {
  if (!absl::ConsumePrefix(&line, name)) return false;
  *ids = absl::StrSplit(line, ' ');
  return ids->size() <= kMaxReplicas && std::all_of(ids->begin(), ids->end(), IsId) &&
         std::adjacent_find(ids->begin(), ids->end(), std::greater_equal<>()) == ids->end();
}

}  // namespace

std::string EncodeWitness(const Membership& membership) {
  std::string text = absl::StrCat(kFirstLine, "\npool ", membership.pool_id, "\ngeneration ",
                                  membership.generation.value(), "\nversion ", membership.version,
                                  "\nin-sync ", absl::StrJoin(membership.in_sync, " "),
                                  "\nconfigured ", absl::StrJoin(membership.configured, " "),
                                  "\ndegraded-since ", membership.degraded_since, "\n");
  absl::StrAppend(&text, ChecksumLine(text));
  return text;
}

absl::StatusOr<Membership> DecodeWitness(absl::string_view bytes) {
  if (bytes.size() > kMaxWitnessFileBytes) return Damaged("it is too long");
  const std::vector<absl::string_view> lines = absl::StrSplit(bytes, '\n');
  if (lines.size() < 2 || !absl::StartsWith(lines[0], kMagic)) {
    return Damaged("it does not begin as one");
  }
  if (lines[0] != kFirstLine) {
    return absl::FailedPreconditionError(
        absl::StrCat("the witness file has format \"", lines[0].substr(0, 64),
                     "\", this program knows \"", kFirstLine, "\"; use the newer program"));
  }
  if (lines.size() != kLines + 1) return Damaged("it does not have eight lines");
  const size_t body_bytes = static_cast<size_t>(lines[kLines - 1].data() - bytes.data());
  if (bytes.substr(body_bytes) != ChecksumLine(bytes.substr(0, body_bytes))) {
    return Damaged("its checksum does not match");
  }

  Membership membership;
  uint64_t generation = 0;
  uint64_t degraded_since = 0;
  absl::string_view pool = lines[1];
  const bool understood = absl::ConsumePrefix(&pool, "pool ") &&
                          TakeNumber(lines[2], "generation ", &generation) &&
                          TakeNumber(lines[3], "version ", &membership.version) &&
                          TakeIds(lines[4], "in-sync ", &membership.in_sync) &&
                          TakeIds(lines[5], "configured ", &membership.configured) &&
                          TakeNumber(lines[6], "degraded-since ", &degraded_since);
  membership.pool_id = std::string(pool);
  membership.generation = Generation(generation);
  membership.degraded_since = static_cast<WallNanos>(degraded_since);
  if (!understood || !IsId(membership.pool_id) || EncodeWitness(membership) != bytes) {
    return Damaged("a line is not as docs/formats/witness.md has it");
  }
  return membership;
}

}  // namespace twofold
