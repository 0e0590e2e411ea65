// Every bound of the product in one place, and proofs of how they relate.
//
// A bound that guards memory says what it bounds and what happens at it. Change one and the
// static_asserts at the end tell what else must move.
#pragma once

#include <cstddef>
#include <cstdint>

namespace twofold {

// ---- Blocks and volumes -------------------------------------------------------------------------
inline constexpr size_t kBlockSize = 4096;  // bytes; the unit of checksums, maps and atomicity
inline constexpr size_t kBlockShift = 12;
inline constexpr uint64_t kMaxVolumeBytes = uint64_t{1} << 50;  // 1 PiB of address space
inline constexpr size_t kMaxVolumes = 1024;                     // in a pool
inline constexpr size_t kMaxNameBytes = 128;                    // a volume's or a snapshot's name
inline constexpr size_t kMaxGroupMembers = 64;  // volumes in one consistent snapshot

// ---- Segment log --------------------------------------------------------------------------------
inline constexpr uint64_t kDefaultSegmentBytes = uint64_t{64} << 20;
inline constexpr uint64_t kMinSegmentBytes = uint64_t{4} << 20;  // small test stores
inline constexpr uint64_t kMaxSegmentBytes = uint64_t{1} << 30;
inline constexpr size_t kMaxEntryBlocks = 256;  // 1 MiB: a larger request becomes several (R5)
inline constexpr size_t kMaxBatchPayloadBlocks = 512;  // 2 MiB of payload in one durable write
inline constexpr size_t kMaxBatchEntries = 1024;
inline constexpr size_t kMaxDescriptorBlocks = 16;  // 64 KiB of descriptor
inline constexpr size_t kMaxEntryBodyBytes = 4096;  // names and the like, without payload
inline constexpr size_t kMaxBatchCommitMarks = 64;  // further ones wait for the next batch (R2)
inline constexpr size_t kMaxUnsyncedBlocks = 4096;  // written only: then the log syncs by itself
inline constexpr uint64_t kIdleCoverMs = 100;       // after that the last batch is covered (R12)
inline constexpr size_t kMaxBatchesInFlight = 2;    // per store; LogWriter::MayFollow
// How long a batch waits for writers that were just answered, of the time that the last one took.
inline constexpr int64_t kBatchHoldPercent = 70;
// Where they did not come back, so many batches go before it is tried again.
inline constexpr uint32_t kBatchHoldPause = 64;
inline constexpr size_t kMaxStoreDirectories = 16;  // disks of one store
inline constexpr uint64_t kMinSegments = 8;         // of a store: reserves, the open one, turnover
inline constexpr size_t kReadySegments = 2;         // pre-written ahead of the writer
inline constexpr size_t kReadySegmentsIdle = 16;    // while nothing is written to the log
// What background work writes at a time: a larger write fills the device's queue, and a batch that
// comes then waits for it.
inline constexpr uint64_t kDevicePieceBytes = uint64_t{128} << 10;
// What a scrub reads at a time.
inline constexpr size_t kScrubPieceBytes = size_t{256} << 10;
// How fast it reads where nobody says otherwise.
inline constexpr uint64_t kDefaultScrubBytesPerSecond = uint64_t{64} << 20;
inline constexpr size_t kMaxScrubFindings = 1000;    // told one by one; further ones are counted
inline constexpr size_t kMaxMovedEntryBlocks = 128;  // 512 KiB: what others wait behind (M15)
inline constexpr size_t kMaxIoPieces = 1023;         // iovecs of one write (IOV_MAX less one)
inline constexpr size_t kMaxDamagedPlaces = 128;     // of a store, remembered; more are counted

// ---- Extent map ---------------------------------------------------------------------------------
inline constexpr size_t kChunkBlocks = 32;  // 128 KiB of address space in one map entry
inline constexpr uint64_t kCheckpointEntries = 250'000;          // M9
inline constexpr uint64_t kCheckpointBytes = uint64_t{1} << 30;  // M9
inline constexpr size_t kDefaultMapCacheBytes = size_t{128} << 20;
inline constexpr size_t kMaxPartialChunks = 16'384;  // M10: at the bound new batches wait
inline constexpr size_t kMaxBaseReads = 8;           // bases of partial chunks read at a time
inline constexpr size_t kMaxLookupReads = 16;        // chunks of one lookup read at a time
inline constexpr size_t kMaxZeroedChunks =
    64;  // a trim over more of them becomes a tombstone (R38)
inline constexpr uint32_t kMaxLineageDepth =
    8;  // of a lookup's timelines; longer ones are flattened (M8)
inline constexpr size_t kMaxTombstones = 1024;  // at the bound new batches wait
inline constexpr uint64_t kMaxReclaimedPerCheckpoint =
    100'000;  // then reclaim waits for the next one
// Forwarding entries in memory: at the bound the cleaner waits for the reference pass (M16).
inline constexpr size_t kMaxForwardingBytes = size_t{16} << 20;
inline constexpr size_t kReferencePageVersions = 256;  // chunk versions looked at in one step
inline constexpr size_t kMaxReferenceRewrites = 8192;  // then a checkpoint takes them
// Chunks that wait for a checkpoint: bounded by the map cache, or this where that is smaller.
inline constexpr size_t kMinDirtyMapBytes = size_t{4} << 20;

// ---- Volumes and replication --------------------------------------------------------------------
inline constexpr size_t kMaxInFlightPerVolume = 1024;  // requests; further ones wait their turn
inline constexpr size_t kStatusStepBlocks = 65'536;    // looked up at a time for a block status
inline constexpr size_t kMaxReplicas = 8;              // in one pool
inline constexpr uint64_t kReplicaCheckMs = 1000;      // how often each is looked after
inline constexpr uint64_t kRepairCheckMs = 500;        // how often damage is looked for
inline constexpr uint64_t kMinResyncRateBytes = uint64_t{1} << 20;  // a second; less never ends

// ---- NBD ----------------------------------------------------------------------------------------
inline constexpr size_t kMaxNbdRequestBytes = size_t{32} << 20;
inline constexpr size_t kMaxNbdConnections = 256;
inline constexpr size_t kMaxNbdRequestsPerConnection = 128;  // in flight; none left = stop reading
inline constexpr size_t kMaxNbdOptionBytes = 4096 + 8;       // a longer option is refused unread
inline constexpr size_t kMaxNbdOptions = 256;                // of one handshake
inline constexpr uint64_t kNbdHandshakeTimeoutMs = 10'000;
// A client that takes no replies, or stops in the middle of a payload, is let go after that: it
// holds memory that others share.
inline constexpr uint64_t kNbdStuckTimeoutMs = 60'000;
inline constexpr uint64_t kNbdDrainTimeoutMs = 10'000;  // for what is in flight at a stop
// Clients over kMaxNbdConnections that are told so; further ones are just closed.
inline constexpr size_t kMaxNbdRefusedConnections = 16;
// Larger reads and writes run in pieces, so that a client which is slow in sending or in taking
// them pins little memory.
inline constexpr size_t kNbdPieceBytes = size_t{1} << 20;
// Payload memory that is each connection's own; beyond it they share the rest of the pool. A
// request that finds no more is cut into pieces of this size, so that every client gets on whatever
// the others hold.
inline constexpr size_t kNbdGuaranteedBytes = size_t{256} << 10;
inline constexpr size_t kNbdShareOfPool = 4;  // one connection has 1/4 of what is shared at most
inline constexpr size_t kNbdSendBytes = size_t{1} << 20;  // of data in one write to a socket

// ---- Memory -------------------------------------------------------------------------------------
inline constexpr size_t kDefaultBufferPoolBytes = size_t{192} << 20;  // payloads in flight
inline constexpr size_t kNbdReceiveBufferBytes = size_t{128} << 10;   // per connection

// ---- Control ------------------------------------------------------------------------------------
inline constexpr size_t kMaxControlRequestBytes = size_t{64} << 10;
inline constexpr size_t kMaxControlHeaderBytes = size_t{8} << 10;  // request line and header fields
inline constexpr size_t kMaxControlJsonDepth = 8;
inline constexpr size_t kMaxControlConnections = 32;          // a further one is told so and closed
inline constexpr uint64_t kControlReceiveTimeoutMs = 10'000;  // of one request, from its first byte
inline constexpr uint64_t kControlIdleTimeoutMs = 60'000;     // of a connection between requests
inline constexpr uint64_t kControlSendTimeoutMs = 10'000;     // for a client to take an answer
inline constexpr uint64_t kControlAnswerTimeoutMs = 600'000;  // how long the command line waits
inline constexpr size_t kMaxControlAnswerBytes = size_t{256} << 20;  // what the command line takes

// ---- Runtime ------------------------------------------------------------------------------------
inline constexpr unsigned kRingEntries = 1024;
inline constexpr size_t kOffloadThreads = 2;        // where blocking calls (RocksDB) run
inline constexpr size_t kMaxResumesPerTurn = 1024;  // then the loop looks at the kernel again

static_assert(kBlockSize == size_t{1} << kBlockShift);
static_assert(kMaxEntryBlocks <= kMaxBatchPayloadBlocks, "an entry never spans batches (R5)");
static_assert(kMaxBatchPayloadBlocks * kBlockSize + kMaxDescriptorBlocks * kBlockSize <
                  kMinSegmentBytes / 1.5,
              "a batch fits a segment with room for the descriptor copies (R15)");
static_assert(kMaxBatchPayloadBlocks + kMaxDescriptorBlocks <= kMaxIoPieces);
static_assert(kDevicePieceBytes % kBlockSize == 0);
static_assert(kScrubPieceBytes % kBlockSize == 0);
static_assert(kNbdPieceBytes % kNbdGuaranteedBytes == 0 && kNbdGuaranteedBytes % kBlockSize == 0);
static_assert(2 * (kNbdPieceBytes / kBlockSize + 1) <= kMaxIoPieces,
              "the chunks of a piece, a header and data each, go out in one write");
static_assert(kMaxNbdConnections * kNbdGuaranteedBytes * 3 <= kDefaultBufferPoolBytes,
              "what is guaranteed leaves most of the pool to be shared");
static_assert(kMaxNbdRequestBytes * 4 <= kDefaultBufferPoolBytes,
              "a few of the largest requests fit the pool, so that it can't be starved by one");

}  // namespace twofold
