// Where randomness comes from; nothing else in the project makes any (tools/lint looks for it).
//
// Prng is reproducible: the same seed gives the same numbers on every machine and in every version,
// so that a seed in a failed simulation's message replays it. Not for secrets.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <limits>

#include "storage/base/check.h"

namespace twofold {

// One step of splitmix64: advances `state` and returns 64 well-mixed bits. Source: Steele, Lea,
// Flood, "Fast splittable pseudorandom number generators", 2014.
constexpr uint64_t SplitMix64(uint64_t& state) {
  state += 0x9e3779b97f4a7c15u;
  uint64_t mixed = state;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
  return mixed ^ (mixed >> 31);
}

// xoshiro256** 1.0, seeded through splitmix64. Source: Blackman, Vigna, "Scrambled linear
// pseudorandom number generators", 2018. Usable as a standard uniform random bit generator.
class Prng {
 public:
  using result_type = uint64_t;

  constexpr explicit Prng(uint64_t seed) {
    for (uint64_t& word : state_) word = SplitMix64(seed);
  }

  static constexpr uint64_t min() { return 0; }
  static constexpr uint64_t max() { return std::numeric_limits<uint64_t>::max(); }
  constexpr uint64_t operator()() { return Next(); }

  // 64 uniform bits.
  constexpr uint64_t Next() {
    const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

  // Uniform in [0, bound), without bias; `bound` is at least 1.
  constexpr uint64_t Uniform(uint64_t bound) {
    TF_CHECK(bound > 0);
    // The numbers below 2^64 mod bound are left out; the rest is a whole number of rounds.
    const uint64_t skipped = (0 - bound) % bound;
    uint64_t number = Next();
    while (number < skipped) number = Next();
    return number % bound;
  }

  // Uniform in [first, last], both included.
  constexpr uint64_t Between(uint64_t first, uint64_t last) {
    TF_CHECK(first <= last);
    const uint64_t span = last - first;
    return span == max() ? Next() : first + Uniform(span + 1);
  }

  // True once in `count` times on average; `count` is at least 1.
  constexpr bool OneIn(uint64_t count) { return Uniform(count) == 0; }

  // A generator of its own for a part of a simulation, so that what one part draws doesn't shift
  // the numbers of another.
  constexpr Prng Fork() { return Prng(Next()); }

 private:
  std::array<uint64_t, 4> state_{};
};

// 64 bits from the kernel's generator, for ids that must be unique in the world (stores, pools) and
// for seeds. Not reproducible: simulated code takes its ids from a Prng.
uint64_t SecureRandom64();

}  // namespace twofold
