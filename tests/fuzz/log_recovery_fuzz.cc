// The log's recovery over segments that the input writes: batches of the right identity, chain and
// checksum, torn ones, dead tails that an earlier recovery cut off, sealed segments, segments that
// hold nothing; and damage of any kind on top, where the input asks for it.
//
// Without damage recovery must find every batch that somebody said was durable, nothing torn and
// nothing dead (R11, R12, R13). Where one descriptor is lost that was durable it finds the copy, or
// refuses (R12, R15). With damage of any kind it may refuse (kDataLoss); what it hands out is one
// chain of batches that were written. In any case it does the same when it is repeated, and once
// the log goes on, the next recovery finds what this one found, then the cut, then what was
// appended.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "storage/base/bytes.h"
#include "storage/base/check.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/base/prng.h"
#include "storage/io/aligned_bytes.h"
#include "storage/log/codec.h"
#include "storage/log/segment_log.h"
#include "storage/runtime/executor.h"
#include "tests/sim/sim_block_device.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_poller.h"

namespace twofold {
namespace {

constexpr uint64_t kSlots = 6;
constexpr int kMaxSteps = 200;

std::string PathOf(uint64_t slot) { return absl::StrFormat("log/%08d.seg", slot); }

// A log as a writer leaves it that dies now and then.
class Image {
 public:
  explicit Image(sim::SimDisk* disk) : disk_(*disk), buffer_(kMaxDescriptorBlocks * kBlockSize) {
    OpenSegment();
  }

  struct Batch {
    LogPosition start;
    LogPosition end;
    std::string descriptor;
    uint64_t known_durable = 0;
    bool bare = false;
    bool torn = false;
  };
  // The living branch; the batch with number n is the nth.
  const std::vector<Batch>& chain() const { return chain_; }
  bool damaged() const { return damaged_; }
  void SetDamaged() { damaged_ = true; }
  Incarnation incarnation() const { return incarnation_; }

  // One batch at the end. `shape` says what is in it, `behind` how far what it knows lags.
  void Append(uint8_t shape, uint8_t behind) {
    BatchEncoder encoder(buffer_.span());
    std::vector<CommitMark> marks;
    if (shape % 8 == 7) marks.push_back({VolumeId(1), {Generation(1), Seq(next_seq_)}});
    encoder.Begin(marks);
    std::vector<LogEntry> entries = EntriesOf(shape);
    std::string payload;
    for (const LogEntry& entry : entries) {
      encoder.Add(entry);
      for (size_t i = 0; i < entry.block_crcs.size(); ++i) payload += BlockOf(next_block_++);
    }
    const uint64_t blocks = encoder.descriptor_blocks() + encoder.payload_blocks();
    if (!BatchFits(SegmentBlocks(kMinSegmentBytes), end_.block, copies_bytes_, blocks,
                   encoder.used_bytes())) {
      NextSegment();
      if (!BatchFits(SegmentBlocks(kMinSegmentBytes), end_.block, copies_bytes_, blocks,
                     encoder.used_bytes())) {
        return;  // there is no further one
      }
    }
    uint64_t durable = end_.batch.value() - 1;
    durable -= std::min<uint64_t>(durable, behind);
    if (first_torn_ > 0) durable = std::min(durable, first_torn_ - 1);
    durable = std::max(durable, known_durable_);
    const uint32_t checksum = encoder.Finish(
        identities_.back(), {end_.batch, end_.block, end_.previous_checksum, incarnation_,
                             BatchNumber(durable), CatalogueReference{}});
    known_durable_ = durable;
    Batch batch;
    batch.start = end_;
    batch.descriptor.assign(reinterpret_cast<const char*>(buffer_.data()), encoder.used_bytes());
    batch.known_durable = durable;
    batch.bare = entries.empty() && marks.empty();
    Write(end_.block, AsBytes(batch.descriptor));
    Write(end_.block + encoder.descriptor_blocks(), AsBytes(payload));
    end_ = {end_.batch.Next(), end_.segment, end_.block + static_cast<uint32_t>(blocks), checksum};
    batch.end = end_;
    copies_bytes_ += batch.descriptor.size();
    chain_.push_back(std::move(batch));
  }

  // The next batch starts a segment.
  void NextSegment() {
    if (identities_.size() == kSlots) return;
    OpenSegment();
  }

  // Copies and trailer of the newest segment that has none (R15); all of it was durable then.
  void Seal() {
    const SegmentIdentity& identity = identities_.back();
    SealRecord seal;
    seal.copies_crc = identity.CrcSeed();
    std::string copies;
    for (const Batch& batch : chain_) {
      if (batch.start.segment != identity.segment) continue;
      if (batch.torn) return;
      if (copies.empty()) {
        seal.first_batch = batch.start.batch;
        seal.previous_checksum = batch.start.previous_checksum;
      }
      copies += batch.descriptor;
      ++seal.batches;
      seal.last_batch = batch.start.batch;
      seal.last_checksum = batch.end.previous_checksum;
      seal.end_block = batch.end.block;
    }
    if (copies.empty() || first_torn_ > 0) return;
    seal.copies_bytes = copies.size();
    seal.copies_crc = ExtendCrc32c(seal.copies_crc, AsBytes(copies));
    const uint64_t blocks = SealBlocks(copies.size());
    seal.first_block = static_cast<uint32_t>(SegmentBlocks(kMinSegmentBytes) - blocks);
    copies.resize(blocks * kBlockSize);
    EncodeTrailer(identity, seal,
                  absl::MakeSpan(reinterpret_cast<std::byte*>(copies.data()), copies.size())
                      .last(kBlockSize));
    Write(seal.first_block, AsBytes(copies));
    known_durable_ = std::max(known_durable_, seal.last_batch.value());
    sealed_up_to_ = seal.last_batch.value();
    sealed_.push_back(identity.segment);
    NextSegment();
    // Nothing is written into a sealed segment: the log ends here where there is no other.
    if (identities_.back().segment == sealed_.back()) {
      end_.block = static_cast<uint32_t>(SegmentBlocks(kMinSegmentBytes));
    }
  }
  bool sealed(SegmentNumber segment) const {
    return std::find(sealed_.begin(), sealed_.end(), segment) != sealed_.end();
  }

  // Loss of power takes a part of a batch that nobody knew to be durable.
  void Tear(uint8_t which, bool payload) {
    if (known_durable_ >= chain_.size() || hole_ > 0) return;
    Batch& batch = chain_[known_durable_ + which % (chain_.size() - known_durable_)];
    const auto descriptor_blocks =
        static_cast<uint32_t>((batch.descriptor.size() + kBlockSize - 1) / kBlockSize);
    const bool has_payload = batch.end.block - batch.start.block > descriptor_blocks;
    const uint32_t block = batch.start.block + (payload && has_payload ? descriptor_blocks : 0);
    disk_.ZeroBlock(PathOf(SlotOf(batch.start.segment)), block);
    batch.torn = true;
    const uint64_t number = batch.start.batch.value();
    first_torn_ = first_torn_ == 0 ? number : std::min(first_torn_, number);
  }

  // The process dies and opens the log again: what lies from `which` of the unknown ones on (and
  // from the first torn one on, in any case) is cut off, its heads destroyed (R11); a cut record
  // begins a new segment.
  void DieAndRecover(uint8_t which) {
    if (identities_.size() == kSlots || hole_ > 0) return;
    uint64_t keep = known_durable_ + which % (chain_.size() - known_durable_ + 1);
    if (first_torn_ > 0) keep = std::min(keep, first_torn_ - 1);
    while (chain_.size() > keep) {
      const Batch& batch = chain_.back();
      disk_.ZeroBlock(PathOf(SlotOf(batch.start.segment)), batch.start.block);
      end_ = batch.start;
      chain_.pop_back();
    }
    first_torn_ = 0;
    incarnation_ = incarnation_.Next();
    OpenSegment();
  }

  // The descriptor of a batch vanishes that was durable. The writer does not notice.
  void LoseOne(uint8_t which) {
    if (hole_ > 0 || first_torn_ > 0 || known_durable_ == 0) return;
    hole_ = 1 + which % known_durable_;
    const LogPosition& start = chain_[hole_ - 1].start;
    disk_.ZeroBlock(PathOf(SlotOf(start.segment)), start.block);
  }
  uint64_t hole() const { return hole_; }
  // Up to which batch everything was durable by what is left to say so.
  uint64_t KnownDurableByOthers() const {
    uint64_t known = sealed_up_to_;
    for (const Batch& batch : chain_) {
      if (batch.start.batch.value() != hole_) known = std::max(known, batch.known_durable);
    }
    return known;
  }

 private:
  uint64_t SlotOf(SegmentNumber segment) const { return segment.value() - 1; }

  void OpenSegment() {
    SegmentIdentity identity;
    identity.store_id.fill(0xa0);
    identity.secret.fill(static_cast<uint8_t>(0x50 + identities_.size()));
    identity.segment = SegmentNumber(identities_.size() + 1);
    identity.slot = SlotIndex(identities_.size());
    identity.incarnation = incarnation_;
    identity.segment_bytes = kMinSegmentBytes;
    identities_.push_back(identity);
    AlignedBytes header(kBlockSize);
    EncodeHeaderBlock(identity, header.span());
    Write(0, header.span());
    end_.segment = identity.segment;
    end_.block = 1;
    copies_bytes_ = 0;
  }

  void Write(uint64_t block, absl::Span<const std::byte> bytes) {
    if (bytes.empty()) return;
    disk_.Overwrite(PathOf(SlotOf(identities_.back().segment)), block * kBlockSize, bytes);
  }

  static std::string BlockOf(uint64_t number) {
    std::string block(kBlockSize, '\0');
    std::memcpy(block.data(), &number, sizeof(number));
    return block;
  }

  std::vector<LogEntry> EntriesOf(uint8_t shape) {
    std::vector<LogEntry> entries;
    for (int i = 0; i < shape % 4; ++i) {
      LogEntry entry;
      entry.volume = VolumeId(1);
      entry.timeline = TimelineId(1);
      entry.position = {Generation(1), Seq(next_seq_++)};
      const uint64_t count = 1 + shape / 16 % 4;
      entry.range = {BlockIndex(shape), BlockCount(count)};
      entry.kind = (shape / 4 + i) % 2 == 0 ? EntryKind::kWrite : EntryKind::kZero;
      for (uint64_t b = 0; entry.kind == EntryKind::kWrite && b < count; ++b) {
        const std::string block = BlockOf(next_block_ + b);
        entry.block_crcs.push_back(Crc32c(AsBytes(block)));
      }
      // One with payload in a batch, so that the numbers of its blocks are those to come.
      if (entry.kind == EntryKind::kWrite && i > 0) continue;
      entries.push_back(std::move(entry));
    }
    return entries;
  }

  sim::SimDisk& disk_;
  AlignedBytes buffer_;
  std::vector<SegmentIdentity> identities_;  // of segment 1, 2, ...
  std::vector<SegmentNumber> sealed_;
  std::vector<Batch> chain_;
  LogPosition end_{BatchNumber(1), SegmentNumber(1), 1, 0};
  Incarnation incarnation_{1};
  uint64_t known_durable_ = 0;  // what anything on disk says
  uint64_t sealed_up_to_ = 0;
  uint64_t first_torn_ = 0;  // 0: none
  uint64_t hole_ = 0;        // 0: none
  uint64_t copies_bytes_ = 0;
  uint64_t next_seq_ = 1;
  uint64_t next_block_ = 1;
  bool damaged_ = false;
};

void Damage(sim::SimDisk* disk, Image* image, uint8_t kind, uint8_t a, uint8_t b) {
  const std::string path = PathOf(a % kSlots);
  const std::string other = PathOf(a / kSlots % kSlots);
  // The beginning and the end, where everything is.
  const uint64_t blocks = SegmentBlocks(kMinSegmentBytes);
  const uint64_t block = b % 8 == 7 ? blocks - 1 - b / 8 : b % 128;
  image->SetDamaged();
  switch (kind % 4) {
    case 0:
      return disk->ZeroBlock(path, block);
    case 1:
      return disk->FlipBit(path, block * kBlockSize + kind / 4 * 8u, b % 8);
    case 2:
      return disk->CopyBlock(other, kind / 4 % blocks, path, block);
    default:
      return disk->CopyBlock(path, block, other, block);
  }
}

void Step(sim::SimDisk* disk, Image* image, ByteReader* input) {
  const uint8_t step = input->ReadU8();
  const uint8_t a = input->ReadU8();
  const uint8_t b = input->ReadU8();
  switch (step % 16) {
    case 8:
      return image->NextSegment();
    case 9:
      return image->Seal();
    case 10:
    case 11:
      return image->Tear(a, b % 2 == 0);
    case 12:
    case 13:
      return image->DieAndRecover(a);
    case 14:
      // Without a high bit an input has no damage.
      if (step >= 128) Damage(disk, image, step / 16 + b, a, b);
      return;
    case 15:
      if (step >= 128) image->LoseOne(a);
      return;
    default:
      for (int i = 0; i < 1 + b / 64; ++i) image->Append(a, b % 64);
      return;
  }
}

struct Found {
  absl::StatusOr<SegmentLog::Replayed> replayed = absl::UnknownError("");
  std::vector<LoggedBatch> batches;
};

class Reopened {
 public:
  explicit Reopened(sim::SimPoller* poller, sim::SimDisk* disk) : poller_(*poller), disk_(*disk) {}

  Task<absl::Status> Open() {
    auto device = co_await sim::SimBlockDevice::Open(poller_, disk_);
    TF_CHECK_OK(device.status());
    device_ = *std::move(device);
    SegmentLog::Options options;
    options.store_id = std::string(16, '\xa0');
    options.segment_bytes = kMinSegmentBytes;
    options.max_segments = kSlots + 4;
    options.random = [random = std::make_shared<Prng>(7)] { return random->Next(); };
    std::vector<BlockDevice*> devices;
    devices.push_back(device_.get());
    auto log = co_await SegmentLog::Open(std::move(devices), std::move(options));
    if (log.ok()) log_ = *std::move(log);
    co_return log.status();
  }
  Task<Found> Replay(LogPosition from) {
    Found found;
    found.replayed = co_await log_->Replay(from, [&found](const LoggedBatch& batch) {
      found.batches.push_back(batch);
      return absl::OkStatus();
    });
    co_return found;
  }
  Task<void> Close() {
    if (appending_) co_await log_->Stop();
    log_.reset();
    co_await device_->Close();
    device_.reset();
  }
  Task<absl::Status> StartAppending(SegmentLog::Replayed replayed) {
    const Incarnation next = replayed.last_incarnation.Next();
    std::vector<SegmentNumber> in_use;
    appending_ = true;  // Stop is needed, also after an error
    co_return co_await log_->StartAppending(std::move(replayed), next, std::move(in_use));
  }
  SegmentLog& log() { return *log_; }

 private:
  sim::SimPoller& poller_;
  sim::SimDisk& disk_;
  std::unique_ptr<sim::SimBlockDevice> device_;
  std::unique_ptr<SegmentLog> log_;
  bool appending_ = false;
};

void CheckIsOneChain(const Found& found) {
  for (size_t i = 1; i < found.batches.size(); ++i) {
    TF_CHECK(Continues(found.batches[i - 1].end, found.batches[i]));
  }
  if (found.batches.empty()) return;
  TF_CHECK(found.replayed->cut == found.batches.back().end);
}

// What holds nothing, at the end, may be cut away, durable or not.
size_t WithoutBareEnd(const Image& image, size_t batches) {
  const std::vector<Image::Batch>& chain = image.chain();
  while (batches > 0 && chain[batches - 1].bare &&
         !image.sealed(chain[batches - 1].start.segment)) {
    --batches;
  }
  return batches;
}

// Of a log that has lost one descriptor: found again by its copy (R15), or told of (R12); not taken
// for the end.
void CheckMissedNone(const Image& image, const Found& found) {
  const LogPosition& lost = image.chain()[image.hole() - 1].start;
  TF_CHECK(found.replayed.ok() || !image.sealed(lost.segment)) << found.replayed.status();
  if (!found.replayed.ok()) return;
  // Only who asks for the beginning can tell that it is missing.
  if (found.replayed->needed_from.batch != BatchNumber(1)) return;
  TF_CHECK_GE(found.batches.size(), WithoutBareEnd(image, image.KnownDurableByOthers()));
  if (found.batches.size() < image.hole()) return;
  TF_CHECK(!found.replayed->damage.empty());
}

// Of a log that nothing but deaths has happened to.
void CheckFoundAll(const Image& image, const Found& found) {
  TF_CHECK_OK(found.replayed.status());
  TF_CHECK(found.replayed->damage.empty());
  const std::vector<Image::Batch>& chain = image.chain();
  size_t intact = 0;
  while (intact < chain.size() && !chain[intact].torn) ++intact;
  TF_CHECK_LE(found.batches.size(), intact);
  TF_CHECK_GE(found.batches.size(), WithoutBareEnd(image, intact));
  for (size_t i = 0; i < found.batches.size(); ++i) {
    TF_CHECK(found.batches[i].start == chain[i].start);
    TF_CHECK(found.batches[i].end == chain[i].end);
    TF_CHECK(found.batches[i].durable);
  }
}

bool Same(const Found& a, const Found& b, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (!(a.batches[i].start == b.batches[i].start && a.batches[i].end == b.batches[i].end)) {
      return false;
    }
  }
  return true;
}

Task<void> AppendSome(Reopened* log, uint8_t count) {
  AlignedBytes payload(kBlockSize);
  for (uint8_t i = 0; i < count; ++i) {
    LogEntry entry;
    entry.volume = VolumeId(1);
    entry.timeline = TimelineId(1);
    entry.range = {BlockIndex(0), BlockCount(1)};
    entry.position = {Generation(2), Seq(uint64_t{1000} + i)};
    entry.block_crcs.push_back(Crc32c(payload.span()));
    const auto logged = co_await log->log().Append(entry, payload.span(), Durability::kDurable);
    TF_CHECK_OK(logged.status());
  }
}

Task<void> Recover(sim::SimPoller* poller, sim::SimDisk* disk, Image* image, uint8_t how) {
  // A store names the place itself, but for its first open.
  const bool named = how % 2 == 0 || (!image->chain().empty() && image->chain()[0].torn);
  const LogPosition from =
      named ? LogPosition{BatchNumber(1), SegmentNumber(1), 1, 0} : LogPosition{};
  Found first;
  {
    Reopened log(poller, disk);
    const absl::Status opened = co_await log.Open();
    TF_CHECK(opened.ok() || image->damaged()) << opened;
    if (!opened.ok()) {
      co_await log.Close();
      co_return;
    }
    for (const SegmentNumber segment : log.log().Segments()) {
      const auto batches = co_await log.log().ReadSegment(segment);
      TF_CHECK(batches.ok() || absl::IsDataLoss(batches.status())) << batches.status();
    }
    first = co_await log.Replay(from);
    if (!image->damaged() && image->hole() == 0) CheckFoundAll(*image, first);
    if (!image->damaged() && image->hole() > 0) CheckMissedNone(*image, first);
    const Found again = co_await log.Replay(from);
    TF_CHECK_EQ(first.replayed.status(), again.replayed.status());
    TF_CHECK_EQ(first.batches.size(), again.batches.size());
    TF_CHECK(Same(first, again, first.batches.size()));
    if (!first.replayed.ok()) {
      TF_CHECK(absl::IsDataLoss(first.replayed.status())) << first.replayed.status();
      co_await log.Close();
      co_return;
    }
    CheckIsOneChain(first);
    TF_CHECK(first.replayed->cut == again.replayed->cut);
    const absl::Status started = co_await log.StartAppending(*first.replayed);
    TF_CHECK(started.ok() || image->damaged()) << started;
    if (started.ok()) co_await AppendSome(&log, how / 16);
    if (how % 4 < 2) {
      Prng random(how);
      disk->Crash(how % 8 < 4 ? sim::CrashKind::kPower : sim::CrashKind::kProcess, random);
    }
    co_await log.Close();
    if (!started.ok()) co_return;
  }
  Reopened log(poller, disk);
  const absl::Status opened = co_await log.Open();
  TF_CHECK_OK(opened);
  const Found second = co_await log.Replay(from);
  TF_CHECK_OK(second.replayed.status());
  CheckIsOneChain(second);
  TF_CHECK_GE(second.batches.size(), first.batches.size() + (how >= 16 ? 1 + how / 16 : 0));
  TF_CHECK(Same(first, second, first.batches.size()));
  co_await log.Close();
}

Task<void> Play(sim::SimPoller* poller, sim::SimDisk* disk, ByteReader input) {
  {
    auto device = co_await sim::SimBlockDevice::Open(*poller, *disk);
    TF_CHECK_OK(device.status());
    for (uint64_t slot = 0; slot < kSlots; ++slot) {
      const auto file = co_await (*device)->Open(PathOf(slot), OpenMode::kCreate);
      TF_CHECK_OK(file.status());
      const absl::Status made = co_await (*device)->Allocate(*file, kMinSegmentBytes);
      TF_CHECK_OK(made);
    }
    co_await (*device)->Close();
  }
  const uint8_t how = input.ReadU8();
  Image image(disk);
  for (int i = 0; i < kMaxSteps && input.remaining() >= 3; ++i) Step(disk, &image, &input);
  co_await Recover(poller, disk, &image, how);
}

}  // namespace
}  // namespace twofold

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  twofold::SetLogLevel(twofold::LogLevel::kError);
  twofold::sim::SimPoller poller(data[0]);
  twofold::Executor executor(poller);
  twofold::sim::SimDisk disk("a");
  const absl::Span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  executor.Run(twofold::Play(&poller, &disk, twofold::ByteReader(bytes)));
  return 0;
}
