// What the metadata store merges, built by the input from good values: however operands are
// grouped, the outcome is the same, and for each block it is what the newest of all runs says (M2,
// R18); for each live bit what the last change says.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/map/key_codec.h"
#include "storage/map/live_bitmap.h"
#include "storage/map/merge.h"
#include "storage/map/run_list.h"

namespace twofold {
namespace {

constexpr uint64_t kChunk = 3;
constexpr uint64_t kFirst = kChunk * kChunkBlocks;
constexpr size_t kMaxPieces = 200;
constexpr uint32_t kSegmentBlocks = 2048;

// Two runs of one position and one place say the same of a block (run_list.h): what a block holds
// is made of these.
uint32_t CrcOf(const Run& run, uint64_t block) {
  const uint64_t identity = run.position.seq.value() * 131 + run.position.generation.value();
  return static_cast<uint32_t>(identity * 1'000'003 + block);
}

Run ReadRun(ByteReader* input) {
  Run run;
  const uint8_t range = input->ReadU8();
  const uint8_t position = input->ReadU8();
  const uint8_t place = input->ReadU8();
  const uint64_t first = range % kChunkBlocks;
  run.range = {BlockIndex(kFirst + first),
               BlockCount(1 + range / kChunkBlocks % (kChunkBlocks - first))};
  run.position = {Generation(1 + position % 2), Seq(1 + position / 4)};
  // An entry is either data or zeros, wherever it stands.
  run.kind = position / 4 % 4 == 3 ? RunKind::kZero : RunKind::kData;
  run.address.segment = SegmentNumber(1 + place % 4);
  if (run.kind == RunKind::kZero) return run;
  // Its blocks lie in their order.
  run.address.block = static_cast<uint32_t>(1 + place / 4 * 64u + first);
  for (uint64_t i = 0; i < run.range.count.value(); ++i) {
    run.block_crcs.push_back(CrcOf(run, run.range.first.value() + i));
  }
  return run;
}

// What each block says.
using Blocks = std::array<std::optional<Run>, kChunkBlocks>;

void ApplyTo(Blocks& blocks, const Run& run) {
  for (uint64_t i = 0; i < run.range.count.value(); ++i) {
    const BlockIndex block(run.range.first.value() + i);
    std::optional<Run>& held = blocks[block.value() - kFirst];
    const Run one = Cut(run, {block, BlockCount(1)});
    if (!held.has_value() || Replaces(one, *held)) held = one;
  }
}

void CheckSays(const Blocks& blocks, const RunList& list) {
  Blocks said;
  for (const Run& run : list.runs()) {
    for (uint64_t i = 0; i < run.range.count.value(); ++i) {
      const BlockIndex block(run.range.first.value() + i);
      TF_CHECK(!said[block.value() - kFirst].has_value()) << "twice";
      said[block.value() - kFirst] = Cut(run, {block, BlockCount(1)});
    }
  }
  TF_CHECK(said == blocks);
}

// The value of the key after all operands, grouped as `groups` says: bit i joins operand i with the
// one before.
std::string Grouped(absl::string_view key, std::optional<absl::string_view> base,
                    const std::vector<std::string>& operands, uint32_t groups) {
  std::vector<std::string> joined;
  for (size_t i = 0; i < operands.size(); ++i) {
    if (!joined.empty() && (groups >> i % 32 & 1) != 0) {
      const std::vector<absl::string_view> two = {joined.back(), operands[i]};
      const auto merged = MergeOperands(key, two);
      TF_CHECK_OK(merged.status());
      joined.back() = *merged;
    } else {
      joined.push_back(operands[i]);
    }
  }
  const std::vector<absl::string_view> views(joined.begin(), joined.end());
  const auto full = MergeFull(key, base, views);
  TF_CHECK_OK(full.status());
  return *full;
}

void TryRuns(ByteReader input) {
  const uint32_t groups = input.ReadU32Le();
  const bool with_base = input.ReadU8() % 2 == 0;
  Blocks blocks;
  std::vector<std::string> operands;
  RunList operand;
  RunList all;
  while (input.remaining() >= 4 && operands.size() < kMaxPieces) {
    const bool last = input.ReadU8() % 4 == 0;
    const Run run = ReadRun(&input);
    ApplyTo(blocks, run);
    operand.Insert(run);
    // What is displaced or lost, and what is there now, is all of it.
    std::vector<Run> displaced;
    std::vector<Run> lost;
    all.Insert(run, &displaced, &lost);
    for (const Run& old : displaced) TF_CHECK(Replaces(run, old));
    for (const Run& cut : lost) TF_CHECK_EQ(cut.position, run.position);
    if (!last) continue;
    operands.push_back(operand.Encode(kChunk));
    operand = RunList();
  }
  CheckSays(blocks, all);
  if (!operand.empty()) operands.push_back(operand.Encode(kChunk));
  if (operands.empty()) return;
  const std::string key = EncodeChunkKey({TimelineId(1), kChunk, kFirstPosition});
  std::string first;
  std::optional<absl::string_view> base;
  if (with_base) {
    first = operands.front();
    base = first;
    operands.erase(operands.begin());
  }
  const std::string expected = all.Encode(kChunk);
  TF_CHECK_EQ(Grouped(key, base, operands, 0), expected);
  TF_CHECK_EQ(Grouped(key, base, operands, groups), expected);
  std::reverse(operands.begin(), operands.end());
  TF_CHECK_EQ(Grouped(key, base, operands, groups), expected);
  const auto decoded = RunList::Decode(kChunk, expected);
  TF_CHECK_OK(decoded.status());
  TF_CHECK(*decoded == all);
}

void TryLive(ByteReader input) {
  const uint32_t groups = input.ReadU32Le();
  const SegmentNumber segment(9);
  std::vector<bool> model(kSegmentBlocks);
  std::vector<std::string> operands;
  std::vector<LiveChange> changes;
  const auto finish = [&] {
    if (changes.empty()) return;
    const auto encoded = EncodeLiveChanges(changes);
    TF_CHECK_EQ(encoded.size(), 1u);
    operands.push_back(encoded.front().second);
    changes.clear();
  };
  while (input.remaining() >= 4 && operands.size() < kMaxPieces) {
    const uint16_t where = input.ReadU16Le();
    const uint8_t count = input.ReadU8();
    const uint8_t how = input.ReadU8();
    LiveChange change;
    change.first = {segment, where % (kSegmentBlocks - 256u)};
    change.count = uint32_t{1} + count;
    change.live = how % 2 == 0;
    for (uint32_t i = 0; i < change.count; ++i) model[change.first.block + i] = change.live;
    changes.push_back(change);
    if (how % 8 < 2) finish();
  }
  finish();
  if (operands.empty()) return;
  const std::string key = EncodeSegmentKey(Table::kLive, segment);
  const std::string merged = Grouped(key, std::nullopt, operands, 0);
  TF_CHECK_EQ(Grouped(key, std::nullopt, operands, groups), merged);
  const auto bitmap = LiveBitmap::Decode(merged);
  TF_CHECK_OK(bitmap.status());
  for (uint32_t block = 0; block < kSegmentBlocks; ++block) {
    TF_CHECK_EQ(bitmap->Test(block), model[block]) << "block " << block;
  }
}

}  // namespace
}  // namespace twofold

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const absl::Span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  if (data[0] % 4 == 3) {
    twofold::TryLive(twofold::ByteReader(bytes.subspan(1)));
  } else {
    twofold::TryRuns(twofold::ByteReader(bytes.subspan(1)));
  }
  return 0;
}
