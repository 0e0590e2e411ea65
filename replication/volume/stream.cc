#include "replication/volume/stream.h"

#include <utility>

#include "storage/base/check.h"
#include "storage/base/status_macros.h"
#include "storage/runtime/executor.h"

namespace twofold {

BlockCount Change::payload_blocks() const {
  BlockCount blocks;
  for (const LogEntry& entry : entries) blocks += BlockCount(entry.block_crcs.size());
  return blocks;
}

bool Reservation::TryTake(BlockCount blocks, uint64_t entries) {
  TF_CHECK(!held_);
  held_ = set_->TryReserve(blocks, entries);
  epoch_ = set_->epoch();
  blocks_ = blocks;
  entries_ = entries;
  return held_;
}

Task<absl::Status> Reservation::Take(BlockCount blocks, uint64_t entries, RoomFor use) {
  TF_CHECK(!held_);
  while (true) {
    const uint64_t epoch = set_->epoch();
    absl::Status status = co_await set_->Reserve(blocks, entries, use);
    TF_CO_RETURN_IF_ERROR(status);
    if (epoch != set_->epoch()) {  // somebody joined meanwhile: whether he has room is not known
      set_->Release(blocks, entries, epoch);
      continue;
    }
    held_ = true;
    blocks_ = blocks;
    entries_ = entries;
    epoch_ = epoch;
    co_return status;
  }
}

void Reservation::GiveBackAllBut(BlockCount blocks, uint64_t entries) {
  TF_CHECK(held_);
  if (blocks == blocks_ && entries == entries_) return;
  set_->Release(blocks_ - blocks, entries_ - entries, epoch_);
  blocks_ = blocks;
  entries_ = entries;
}

void Stream::Begin(Change* change, Sequencer::Request* request) {
  TF_CHECK_EQ(change->entries.size(), change->payloads.size());
  sequencer_.Begin(request, change->range, change->entries.size(), Executor::Current().WallNow());
  uint64_t seq = request->first_seq().value();
  WallNanos stamp = request->first_stamp();
  for (LogEntry& entry : change->entries) {
    entry.volume = volume_;
    entry.position = sequencer_.PositionOf(Seq(seq++));
    entry.stamp = stamp++;
  }
}

Task<absl::Status> Stream::Send(Change* change, size_t entry, const ReplicaSet::Member& member) {
  return member.replica->Append(set_->generation(), change->entries[entry], change->payloads[entry],
                                change->durability);
}

void Stream::Finish(Sequencer::Request* request, bool ok) {
  if (!ok) sequencer_.Doom(request);
  // The commit goes out before anybody is answered: a read that comes after the answer shows it
  // (P3).
  if (sequencer_.Complete(request)) set_->Commit(volume_, sequencer_.committed());
}

Task<absl::Status> Stream::Settled(Sequencer::Request* request) {
  if (!request->settled().is_set()) co_await request->settled().Wait();
  if (request->state() == Sequencer::State::kCommitted) co_return absl::OkStatus();
  sequencer_.End(request);
  TF_CHECK(!set_->health().ok());
  co_return set_->health();
}

namespace {

void Count(const Change* change, MonoNanos ordered, MonoNanos replicated) {
  if (change->latency == nullptr) return;
  change->latency->order.Add(ordered - change->started);
  change->latency->replicate.Add(replicated - ordered);
  change->latency->commit.Add(Executor::Current().LastTick() - replicated);
}

}  // namespace

Task<absl::Status> Stream::Append(Change* change, RangeLock::Hold* hold) {
  Sequencer::Request request;
  Begin(change, &request);
  const MonoNanos ordered = Executor::Current().Tick();
  const ReplicaSet::InFlight members(set_);
  StartAll<absl::Status, 2> appends;
  for (size_t entry = 0; entry < change->entries.size(); ++entry) {
    for (size_t i = 0; i < members.size(); ++i) appends.Add(Send(change, entry, *members[i]));
  }
  co_await appends.Start();
  if (hold != nullptr) hold->Release();
  while (appends.pending()) co_await appends.Next();

  ReplicaSet::Members failed;
  for (size_t i = 0; i < appends.size(); ++i) {
    const absl::Status status = appends.TakeResult(i);
    if (status.ok()) continue;
    ReplicaSet::Member* const member = members[i % members.size()];
    set_->Fail(member, status);
    failed.push_back(member);
  }
  bool ok = true;
  if (!failed.empty()) ok = co_await set_->WaitUntilOut(std::move(failed));
  const MonoNanos replicated = Executor::Current().LastTick();
  Finish(&request, ok);
  // As Settled, without a frame for what is nearly always the case.
  if (!request.settled().is_set()) co_await request.settled().Wait();
  if (request.state() == Sequencer::State::kCommitted) {
    Count(change, ordered, replicated);
    co_return absl::OkStatus();
  }
  sequencer_.End(&request);
  co_return set_->health();
}

}  // namespace twofold
