// Strong types for everything that is counted or named, so that two integers can't be swapped.
//
// A value converts to and from its integer only by name (`value()`, explicit construction). Each
// type offers just the arithmetic that means something for it: ids compare, counts add.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <ostream>
#include <utility>

namespace twofold {

// An identity: compares, hashes, prints; no arithmetic.
template <typename Tag>
class Id {
 public:
  constexpr Id() = default;
  constexpr explicit Id(uint64_t value) : value_(value) {}
  constexpr uint64_t value() const { return value_; }
  constexpr auto operator<=>(const Id&) const = default;
  constexpr Id Next() const { return Id(value_ + 1); }

  template <typename H>
  friend H AbslHashValue(H state, Id id) {
    return H::combine(std::move(state), id.value_);
  }
  friend std::ostream& operator<<(std::ostream& out, Id id) { return out << id.value_; }

 private:
  uint64_t value_ = 0;
};

// A count or an index of blocks: adds and subtracts within its own type.
template <typename Tag>
class Quantity {
 public:
  constexpr Quantity() = default;
  constexpr explicit Quantity(uint64_t value) : value_(value) {}
  constexpr uint64_t value() const { return value_; }
  constexpr auto operator<=>(const Quantity&) const = default;
  constexpr Quantity operator+(Quantity other) const { return Quantity(value_ + other.value_); }
  constexpr Quantity operator-(Quantity other) const { return Quantity(value_ - other.value_); }
  constexpr Quantity& operator+=(Quantity other) { return *this = *this + other; }
  constexpr Quantity& operator-=(Quantity other) { return *this = *this - other; }

  template <typename H>
  friend H AbslHashValue(H state, Quantity quantity) {
    return H::combine(std::move(state), quantity.value_);
  }
  friend std::ostream& operator<<(std::ostream& out, Quantity q) { return out << q.value_; }

 private:
  uint64_t value_ = 0;
};

// Unique in a pool, equal in both sets, never reused (M3). Volume 0 is the pool's catalogue (R39).
using VolumeId = Id<struct VolumeTag>;
using TimelineId = Id<struct TimelineTag>;      // unique in the pool; 0 is "none"
using SnapshotId = Id<struct SnapshotTag>;      // unique in the pool; 0 is "none"
using GroupId = Id<struct GroupTag>;            // a snapshot group (R34); 0 is "none"
using Generation = Id<struct GenerationTag>;    // fencing token: grows at each attach
using Incarnation = Id<struct IncarnationTag>;  // grows at each open of a store (R11)
using SegmentNumber = Id<struct SegmentTag>;    // never reused, only grows (M2); 0 is "none"
using SlotIndex = Id<struct SlotTag>;           // which file a segment lives in (M13)
using BatchNumber = Id<struct BatchTag>;        // grows by one per batch of a store; 0 is "none"

using Seq = Id<struct SeqTag>;  // one per log entry of a volume, from 1 on (R5); 0 is "before all"

// A 4 KiB block's index in its volume, and a number of blocks.
using BlockCount = Quantity<struct BlockCountTag>;
using BlockIndex = Quantity<struct BlockIndexTag>;
constexpr BlockIndex operator+(BlockIndex first, BlockCount count) {
  return BlockIndex(first.value() + count.value());
}
constexpr BlockCount Distance(BlockIndex from, BlockIndex to) {
  return BlockCount(to.value() - from.value());
}

inline constexpr VolumeId kCatalogueVolume{0};

// Where a log entry stands in the history of its volume (R1): ordered by generation, then Seq.
struct Position {
  Generation generation;
  Seq seq;
  constexpr auto operator<=>(const Position&) const = default;

  template <typename H>
  friend H AbslHashValue(H state, const Position& p) {
    return H::combine(std::move(state), p.generation, p.seq);
  }
  friend std::ostream& operator<<(std::ostream& out, const Position& p) {
    return out << p.generation << '.' << p.seq;
  }
};

// An epoch is named by the position that opened it (R29): a timeline's first epoch by the position
// of its `timeline start`, each later one by the position of the snapshot that closed the one
// before.
using Epoch = Position;
inline constexpr Position kFirstPosition{};  // before every entry
inline constexpr Position kLastPosition{Generation(std::numeric_limits<uint64_t>::max()),
                                        Seq(std::numeric_limits<uint64_t>::max())};

// A range of blocks of one volume; may be empty.
struct BlockRange {
  BlockIndex first;
  BlockCount count;
  constexpr BlockIndex end() const { return first + count; }
  constexpr bool empty() const { return count.value() == 0; }
  constexpr bool Overlaps(const BlockRange& other) const {
    return first < other.end() && other.first < end();
  }
  constexpr bool operator==(const BlockRange&) const = default;
};

}  // namespace twofold
