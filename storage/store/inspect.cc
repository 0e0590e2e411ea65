#include "storage/store/inspect.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <boost/endian/conversion.hpp>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "storage/io/aligned_bytes.h"
#include "storage/map/key_codec.h"
#include "storage/map/recount.h"
#include "storage/map/run_list.h"

namespace twofold {
namespace {

std::string ToText(Position position) {
  return absl::StrCat(position.generation.value(), ".", position.seq.value());
}

// SHA-256 over the (block, checksum) pairs of a content.
class ChecksumListHash {
 public:
  ChecksumListHash() : context_(EVP_MD_CTX_new()) {
    TF_CHECK(context_ != nullptr);
    TF_CHECK_EQ(EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr), 1);
  }
  void Add(BlockIndex block, uint32_t crc) {
    const std::array<uint64_t, 2> pair{boost::endian::native_to_little(block.value()),
                                       boost::endian::native_to_little(uint64_t{crc})};
    TF_CHECK_EQ(EVP_DigestUpdate(context_.get(), pair.data(), sizeof(pair)), 1);
  }
  std::string Finish() {
    std::string digest(EVP_MAX_MD_SIZE, '\0');
    unsigned length = 0;
    TF_CHECK_EQ(EVP_DigestFinal_ex(context_.get(), reinterpret_cast<unsigned char*>(digest.data()),
                                   &length),
                1);
    digest.resize(length);
    return absl::BytesToHexString(digest);
  }

 private:
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context_;
};

// One walk over everything that the store shows.
class Verifier {
 public:
  Verifier(Store& store, std::function<void(const InspectProgress&)> progress)
      : store_(store), progress_(std::move(progress)), buffer_(kMaxEntryBlocks * kBlockSize) {}

  Task<absl::StatusOr<VerifyReport>> VerifyAll() {
    for (const LogDamage& damage : store_.damage()) {
      report_.problems.push_back(absl::StrCat("segment ", damage.segment.value(), " block ",
                                              damage.block, ": ", damage.what));
    }
    report_.uncommitted_entries = store_.streams().pending_entries();
    for (const auto& [id, volume] : store_.catalogue().volumes()) {
      Position last;
      const auto stream = store_.catalogue().streams().find(id);
      if (stream != store_.catalogue().streams().end()) last = stream->second.applied;
      absl::Status status = co_await Walk(volume.name, volume.current_timeline, kLastPosition, last,
                                          volume.size_bytes);
      TF_CO_RETURN_IF_ERROR(status);
    }
    for (const auto& [id, snapshot] : store_.catalogue().snapshots()) {
      const auto volume = store_.catalogue().volumes().find(snapshot.volume);
      if (volume == store_.catalogue().volumes().end()) continue;
      absl::Status status =
          co_await Walk(absl::StrCat(volume->second.name, "@", snapshot.name), snapshot.timeline,
                        snapshot.position, snapshot.position, snapshot.size_bytes);
      TF_CO_RETURN_IF_ERROR(status);
    }
    absl::StatusOr<Recount> recount =
        co_await VerifyAccounting(&store_.metadata(), &store_.checkpoint_catalogue());
    if (!recount.ok()) {
      report_.problems.push_back(absl::StrCat("space accounting: ", recount.status().message()));
    }
    co_return std::move(report_);
  }

 private:
  Task<absl::Status> Walk(std::string name, TimelineId timeline, Position as_of, Position shown,
                          uint64_t size_bytes) {
    ContentDigest content;
    content.name = name;
    content.position = shown;
    content.size_bytes = size_bytes;
    ChecksumListHash hash;
    const uint64_t blocks = (size_bytes + kBlockSize - 1) / kBlockSize;
    for (uint64_t first = 0; first < blocks; first += kStatusStepBlocks) {
      const BlockRange range{BlockIndex(first),
                             BlockCount(std::min<uint64_t>(kStatusStepBlocks, blocks - first))};
      absl::StatusOr<std::vector<Piece>> pieces =
          co_await store_.map().Lookup(timeline, as_of, range);
      if (!pieces.ok()) {
        report_.problems.push_back(
            absl::StrCat(name, ": the map at block ", first, ": ", pieces.status().ToString()));
        continue;
      }
      for (const Piece& piece : *pieces) {
        if (!piece.mapped || piece.run.kind != RunKind::kData) continue;
        for (size_t i = 0; i < piece.run.block_crcs.size(); ++i) {
          hash.Add(piece.run.range.first + BlockCount(i), piece.run.block_crcs[i]);
        }
        content.data_blocks += piece.run.range.count.value();
        absl::Status status = co_await ReadOnce(name, piece.run);
        TF_CO_RETURN_IF_ERROR(status);
      }
      if (progress_) progress_({name, std::min(first + kStatusStepBlocks, blocks), blocks});
    }
    content.digest = hash.Finish();
    report_.contents.push_back(std::move(content));
    co_return absl::OkStatus();
  }

  // Reads the blocks of `run` that were not read before for another content.
  Task<absl::Status> ReadOnce(std::string name, Run run) {
    std::vector<bool>& seen = seen_[run.address.segment];
    seen.resize(store_.superblock().segment_bytes / kBlockSize);
    const uint64_t count = run.range.count.value();
    bool all_seen = true;
    for (uint64_t i = 0; i < count; ++i) {
      all_seen = all_seen && seen[run.address.block + i];
      seen[run.address.block + i] = true;
    }
    if (all_seen) co_return absl::OkStatus();
    for (uint64_t done = 0; done < count; done += kMaxEntryBlocks) {
      const BlockRange range{run.range.first + BlockCount(done),
                             BlockCount(std::min<uint64_t>(kMaxEntryBlocks, count - done))};
      const Run part = Cut(run, range);
      absl::Status status =
          co_await store_.ReadRun(part, buffer_.span().first(range.count.value() * kBlockSize));
      report_.blocks_read += range.count.value();
      if (!status.ok()) {
        report_.problems.push_back(absl::StrCat(name, ": ", status.message()));
      }
    }
    co_return absl::OkStatus();
  }

  Store& store_;
  std::function<void(const InspectProgress&)> progress_;
  AlignedBytes buffer_;
  VerifyReport report_;
  std::map<SegmentNumber, std::vector<bool>> seen_;
};

const char* KindName(EntryKind kind) {
  switch (kind) {
    case EntryKind::kWrite:
      return "write";
    case EntryKind::kZero:
      return "zero";
    case EntryKind::kSnapshot:
      return "snapshot";
    case EntryKind::kSnapshotDelete:
      return "snapshot-delete";
    case EntryKind::kTimelineStart:
      return "timeline-start";
    case EntryKind::kResize:
      return "resize";
    case EntryKind::kVolumeCreate:
      return "volume-create";
    case EntryKind::kVolumeDelete:
      return "volume-delete";
    case EntryKind::kSeal:
      return "seal";
    case EntryKind::kMembership:
      return "membership";
    case EntryKind::kCatalogue:
      return "catalogue";
    case EntryKind::kCut:
      return "cut";
    case EntryKind::kVoid:
      return "void";
    case EntryKind::kResyncBegin:
      return "resync-begin";
    case EntryKind::kResyncEnd:
      return "resync-end";
    case EntryKind::kMoved:
      return "moved";
    case EntryKind::kMovedZeros:
      return "moved-zeros";
    case EntryKind::kFill:
      return "fill";
    case EntryKind::kFillZeros:
      return "fill-zeros";
    case EntryKind::kResyncSpan:
      return "resync-span";
  }
  return "unknown";
}

std::string Describe(const LoggedBatch::Item& item) {
  const LogEntry& entry = item.entry;
  std::string text = absl::StrCat("    ", KindName(entry.kind), " volume ", entry.volume.value(),
                                  " position ", ToText(entry.position));
  if (entry.timeline != TimelineId()) absl::StrAppend(&text, " timeline ", entry.timeline.value());
  if (!entry.range.empty()) {
    absl::StrAppend(&text, " blocks ", entry.range.first.value(), "+", entry.range.count.value());
  }
  if (HasPayload(entry.kind)) {
    absl::StrAppend(&text, " at ", item.payload.segment.value(), ":", item.payload.block);
  }
  if (!entry.body.empty()) absl::StrAppend(&text, " body ", entry.body.size(), " bytes");
  return text;
}

using Line = std::function<void(const std::string&)>;

void DumpHead(Store& store, const Line& line) {
  const Superblock& superblock = store.superblock();
  line(absl::StrCat("superblock: pool ", superblock.pool_id, " store ", superblock.store_id,
                    " set ", superblock.set_name, " incarnation ", superblock.incarnation.value(),
                    " version ", superblock.version, " segments ", superblock.max_segments, " of ",
                    superblock.segment_bytes, " bytes, disks ",
                    absl::StrJoin(superblock.disk_ids, ",")));
  const CheckpointRecord& checkpoint = store.last_checkpoint();
  line(absl::StrCat("checkpoint: ", checkpoint.number, " replay from segment ",
                    checkpoint.replay_from.segment.value(), " block ", checkpoint.replay_from.block,
                    " batch ", checkpoint.replay_from.batch.value(), ", catalogue in segment ",
                    checkpoint.catalogue_segment.value()));
  const AttachState& attach = store.attach_state();
  line(absl::StrCat("attach: sealed at generation ", attach.sealed.value(), ", membership version ",
                    attach.membership_version, ", in-sync ", absl::StrJoin(attach.in_sync, ","),
                    ", configured ", absl::StrJoin(attach.configured, ",")));
}

void DumpCatalogue(const Catalogue& catalogue, const Line& line) {
  for (const auto& [id, volume] : catalogue.volumes()) {
    line(absl::StrCat("volume: ", id.value(), " ", volume.name, " ", volume.size_bytes,
                      " bytes, timeline ", volume.current_timeline.value()));
  }
  for (const auto& [id, timeline] : catalogue.timelines()) {
    line(absl::StrCat("timeline: ", id.value(), " of volume ", timeline.volume.value(), ", parent ",
                      timeline.parent.value(), " at ", ToText(timeline.fork), ", opened at ",
                      ToText(timeline.opened), ", epoch ", ToText(timeline.current_epoch)));
  }
  for (const auto& [id, snapshot] : catalogue.snapshots()) {
    line(absl::StrCat("snapshot: ", id.value(), " ", snapshot.name, " of volume ",
                      snapshot.volume.value(), " timeline ", snapshot.timeline.value(), " at ",
                      ToText(snapshot.position), ", group ", snapshot.group.value()));
  }
  for (const auto& [volume, stream] : catalogue.streams()) {
    line(absl::StrCat("stream: volume ", volume.value(), " applied ", ToText(stream.applied),
                      ", generations ",
                      absl::StrJoin(stream.generations, " ",
                                    [](std::string* out, Position p) { out->append(ToText(p)); })));
  }
  for (const PinRecord& pin : catalogue.pins()) {
    line(absl::StrCat("pin: timeline ", pin.timeline.value(), " at ", ToText(pin.position),
                      pin.old_state ? ", the state before the resync" : ", of the resync"));
  }
}

}  // namespace

Task<absl::StatusOr<VerifyReport>> VerifyStore(
    Store& store, std::function<void(const InspectProgress&)> progress) {
  Verifier verifier(store, std::move(progress));
  co_return co_await verifier.VerifyAll();
}

Task<absl::Status> DumpStore(Store& store, std::function<void(const std::string&)> line) {
  DumpHead(store, line);
  DumpCatalogue(store.catalogue(), line);
  for (SegmentNumber segment : store.log().Segments()) {
    const auto known = store.segment_table().segments().find(segment);
    if (known == store.segment_table().segments().end()) {
      line(absl::StrCat("segment: ", segment.value(), " free"));
      continue;
    }
    line(absl::StrCat("segment: ", segment.value(), " live ", known->second.live_blocks, " zero ",
                      known->second.zero_blocks));
    absl::StatusOr<std::vector<LoggedBatch>> batches = co_await store.ReadSegment(segment);
    if (!batches.ok()) {
      line(absl::StrCat("  unreadable: ", batches.status().ToString()));
      continue;
    }
    for (const LoggedBatch& batch : *batches) {
      line(
          absl::StrCat("  batch ", batch.start.batch.value(), " at block ", batch.start.block,
                       " incarnation ", batch.incarnation.value(), " commits ",
                       absl::StrJoin(batch.commits, " ", [](std::string* out, const CommitMark& m) {
                         absl::StrAppend(out, m.volume.value(), ":", ToText(m.position));
                       })));
      for (const LoggedBatch::Item& item : batch.items) line(Describe(item));
    }
  }
  co_return absl::OkStatus();
}

}  // namespace twofold
