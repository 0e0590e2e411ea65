#include "storage/store/streams.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"

namespace twofold {
namespace {

bool IsRecord(const LogEntry& entry) {
  return entry.kind != EntryKind::kWrite && entry.kind != EntryKind::kZero;
}

std::string ToText(Position position) {
  return absl::StrCat(position.generation.value(), ".", position.seq.value());
}

}  // namespace

void Streams::Restore(VolumeId volume, Position applied) {
  Stream& stream = streams_[volume];
  TF_CHECK(stream.pending.empty());
  stream.sent = applied;
  stream.committed = applied;
}

void Streams::Void(VolumeId volume) {
  Stream& stream = streams_[volume];
  while (!stream.pending.empty() && stream.pending.back().entry.position > stream.committed) {
    if (IsRecord(stream.pending.back().entry)) --stream.pending_records;
    stream.pending.pop_back();
    --pending_entries_;
  }
  stream.sent = stream.committed;
}

absl::Status Streams::Admit(VolumeId volume, Position position) {
  Stream& stream = streams_[volume];
  if (position <= stream.sent) {
    return absl::AlreadyExistsError(
        absl::StrCat("volume ", volume.value(), ": position ", ToText(position),
                     " was logged already, the log is at ", ToText(stream.sent)));
  }
  if (position.seq.value() != stream.sent.seq.value() + 1) {
    return absl::InvalidArgumentError(absl::StrCat("volume ", volume.value(), ": position ",
                                                   ToText(position), " does not follow ",
                                                   ToText(stream.sent)));
  }
  stream.sent = position;
  return absl::OkStatus();
}

bool Streams::Add(const LogEntry& entry, LogAddress payload, const LogPosition& batch) {
  Stream& stream = streams_[entry.volume];
  const Position last =
      stream.pending.empty() ? stream.committed : stream.pending.back().entry.position;
  // While appending `committed` never runs ahead of what is logged, so this skips only on replay.
  if (entry.position <= last) return false;
  stream.pending.push_back({entry, payload, batch});
  stream.sent = std::max(stream.sent, entry.position);
  if (IsRecord(entry)) ++stream.pending_records;
  ++pending_entries_;
  return true;
}

void Streams::Commit(VolumeId volume, Position position) {
  Stream& stream = streams_[volume];
  if (position <= stream.committed) return;
  stream.committed = position;
  if (std::find(moved_.begin(), moved_.end(), volume) == moved_.end()) moved_.push_back(volume);
}

std::optional<PendingEntry> Streams::TakeCommitted(VolumeId volume) {
  const auto it = streams_.find(volume);
  if (it == streams_.end()) return std::nullopt;
  Stream& stream = it->second;
  if (stream.pending.empty() || stream.pending.front().entry.position > stream.committed) {
    return std::nullopt;
  }
  std::optional<PendingEntry> entry = std::move(stream.pending.front());
  stream.pending.pop_front();
  if (IsRecord(entry->entry)) --stream.pending_records;
  --pending_entries_;
  return entry;
}

bool Streams::HasPendingRecords(VolumeId volume) const {
  const auto it = streams_.find(volume);
  return it != streams_.end() && it->second.pending_records > 0;
}

std::optional<LogPosition> Streams::OldestPendingBatch() const {
  std::optional<LogPosition> oldest;
  for (const auto& [volume, stream] : streams_) {
    if (stream.pending.empty()) continue;
    const LogPosition& batch = stream.pending.front().batch;
    if (!oldest.has_value() || batch.batch < oldest->batch) oldest = batch;
  }
  return oldest;
}

std::vector<CommitMark> Streams::TakeMovedMarks(size_t max) {
  std::vector<CommitMark> marks;
  const size_t count = std::min(max, moved_.size());
  for (size_t i = 0; i < count; ++i) {
    const auto it = streams_.find(moved_[i]);
    if (it != streams_.end()) marks.push_back({moved_[i], it->second.committed});
  }
  moved_.erase(moved_.begin(), moved_.begin() + static_cast<ptrdiff_t>(count));
  return marks;
}

}  // namespace twofold
