// Reading and writing bytes that cross a boundary: disk, wire, log entries.
//
// ByteReader never reads past its end, whatever the bytes say. A read that doesn't fit returns zero
// or nothing and sets a flag that stays set, so that a decoder reads a whole structure and asks
// once. Nothing here copies: what ReadBytes and ReadString return points into the reader's input.
#pragma once

#include <array>
#include <boost/endian/conversion.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "storage/base/check.h"

namespace twofold {

inline absl::Span<const std::byte> AsBytes(absl::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
inline absl::string_view AsText(absl::Span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Ten bytes of seven bits hold 64 bits.
inline constexpr size_t kMaxVarint64Bytes = 10;

class ByteReader {
 public:
  // `input` must outlive the reader and everything it returns.
  explicit ByteReader(absl::Span<const std::byte> input) : input_(input) {}
  explicit ByteReader(absl::string_view input) : ByteReader(AsBytes(input)) {}

  // True once a read went past the end or met an encoding that is not allowed. Then everything that
  // is read is zero or empty, and `remaining` is 0.
  bool failed() const { return failed_; }
  size_t position() const { return position_; }
  size_t remaining() const { return failed_ ? 0 : input_.size() - position_; }
  // Everything was read, and nothing failed: what a decoder asks at its end.
  bool finished() const { return !failed_ && position_ == input_.size(); }

  uint8_t ReadU8() { return ReadInteger<uint8_t, boost::endian::order::little>(); }
  uint16_t ReadU16Le() { return ReadInteger<uint16_t, boost::endian::order::little>(); }
  uint32_t ReadU32Le() { return ReadInteger<uint32_t, boost::endian::order::little>(); }
  uint64_t ReadU64Le() { return ReadInteger<uint64_t, boost::endian::order::little>(); }
  uint16_t ReadU16Be() { return ReadInteger<uint16_t, boost::endian::order::big>(); }
  uint32_t ReadU32Be() { return ReadInteger<uint32_t, boost::endian::order::big>(); }
  uint64_t ReadU64Be() { return ReadInteger<uint64_t, boost::endian::order::big>(); }

  // Seven bits a byte, lowest first, high bit set on all but the last (LEB128). Only the shortest
  // form of a value is accepted, so that each value has one encoding.
  uint64_t ReadVarint64() {
    uint64_t value = 0;
    for (size_t i = 0; i < kMaxVarint64Bytes; ++i) {
      const uint8_t byte = ReadU8();
      if (failed_) return 0;
      if (i == kMaxVarint64Bytes - 1 && byte > 1) break;  // More than 64 bits.
      value |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
      if ((byte & 0x80) == 0) {
        if (byte == 0 && i > 0) break;  // Longer than need be.
        return value;
      }
    }
    Fail();
    return 0;
  }

  // The next `length_bytes` bytes, or nothing.
  absl::Span<const std::byte> ReadBytes(size_t length_bytes) {
    if (length_bytes > remaining()) {
      Fail();
      return {};
    }
    const auto piece = input_.subspan(position_, length_bytes);
    position_ += length_bytes;
    return piece;
  }
  absl::string_view ReadString(size_t length_bytes) { return AsText(ReadBytes(length_bytes)); }

  // A varint length and that many bytes. A length over `max_bytes` fails.
  absl::string_view ReadLengthPrefixed(size_t max_bytes) {
    const uint64_t length_bytes = ReadVarint64();
    if (length_bytes > max_bytes) {
      Fail();
      return {};
    }
    return ReadString(static_cast<size_t>(length_bytes));
  }

  void Skip(size_t length_bytes) { ReadBytes(length_bytes); }

  // For decoders that find a value they can't accept and want one error path.
  void Fail() { failed_ = true; }

 private:
  template <typename T, boost::endian::order kOrder>
  T ReadInteger() {
    const auto piece = ReadBytes(sizeof(T));
    if (piece.empty()) return 0;
    return boost::endian::endian_load<T, sizeof(T), kOrder>(
        reinterpret_cast<const unsigned char*>(piece.data()));
  }

  absl::Span<const std::byte> input_;
  size_t position_ = 0;
  bool failed_ = false;
};

namespace internal {

// What both writers offer; `Sink` has `bool Append(const std::byte*, size_t)` and `bool Overwrite(
// size_t offset, const std::byte*, size_t)`, each false when it doesn't fit.
template <typename Sink>
class ByteWriterMethods {
 public:
  void WriteU8(uint8_t value) { WriteInteger<boost::endian::order::little>(value); }
  void WriteU16Le(uint16_t value) { WriteInteger<boost::endian::order::little>(value); }
  void WriteU32Le(uint32_t value) { WriteInteger<boost::endian::order::little>(value); }
  void WriteU64Le(uint64_t value) { WriteInteger<boost::endian::order::little>(value); }
  void WriteU16Be(uint16_t value) { WriteInteger<boost::endian::order::big>(value); }
  void WriteU32Be(uint32_t value) { WriteInteger<boost::endian::order::big>(value); }
  void WriteU64Be(uint64_t value) { WriteInteger<boost::endian::order::big>(value); }

  void WriteVarint64(uint64_t value) {
    std::array<std::byte, kMaxVarint64Bytes> bytes;
    size_t length_bytes = 0;
    for (; value >= 0x80; value >>= 7) {
      bytes[length_bytes++] = static_cast<std::byte>(value | 0x80);
    }
    bytes[length_bytes++] = static_cast<std::byte>(value);
    sink().Append(bytes.data(), length_bytes);
  }

  void WriteBytes(absl::Span<const std::byte> bytes) { sink().Append(bytes.data(), bytes.size()); }
  void WriteString(absl::string_view text) { WriteBytes(AsBytes(text)); }
  void WriteLengthPrefixed(absl::string_view text) {
    WriteVarint64(text.size());
    WriteString(text);
  }
  void WriteZeros(size_t length_bytes) {
    constexpr std::array<std::byte, 64> kZeros{};
    while (length_bytes > 0) {
      const size_t step = length_bytes < kZeros.size() ? length_bytes : kZeros.size();
      if (!sink().Append(kZeros.data(), step)) return;
      length_bytes -= step;
    }
  }

  // Overwrite what was written before at `offset`: lengths and checksums that are known at the end.
  void PatchU32Le(size_t offset, uint32_t value) {
    PatchInteger<boost::endian::order::little>(offset, value);
  }
  void PatchU64Le(size_t offset, uint64_t value) {
    PatchInteger<boost::endian::order::little>(offset, value);
  }
  void PatchU32Be(size_t offset, uint32_t value) {
    PatchInteger<boost::endian::order::big>(offset, value);
  }

 private:
  template <boost::endian::order kOrder, typename T>
  static std::array<std::byte, sizeof(T)> Encode(T value) {
    std::array<std::byte, sizeof(T)> bytes;
    boost::endian::endian_store<T, sizeof(T), kOrder>(
        reinterpret_cast<unsigned char*>(bytes.data()), value);
    return bytes;
  }
  template <boost::endian::order kOrder, typename T>
  void WriteInteger(T value) {
    const auto bytes = Encode<kOrder>(value);
    sink().Append(bytes.data(), bytes.size());
  }
  template <boost::endian::order kOrder, typename T>
  void PatchInteger(size_t offset, T value) {
    const auto bytes = Encode<kOrder>(value);
    sink().Overwrite(offset, bytes.data(), bytes.size());
  }

  Sink& sink() { return static_cast<Sink&>(*this); }
};

}  // namespace internal

// Appends to a string, which grows as needed.
class ByteWriter : public internal::ByteWriterMethods<ByteWriter> {
 public:
  // `output` must outlive the writer. What it holds stays; patch offsets count from its beginning.
  explicit ByteWriter(std::string* output) : output_(output) {}

  size_t position() const { return output_->size(); }

 private:
  friend class internal::ByteWriterMethods<ByteWriter>;
  bool Append(const std::byte* bytes, size_t length_bytes) {
    output_->append(reinterpret_cast<const char*>(bytes), length_bytes);
    return true;
  }
  bool Overwrite(size_t offset, const std::byte* bytes, size_t length_bytes) {
    TF_CHECK(offset <= output_->size() && length_bytes <= output_->size() - offset)
        << "patch of " << length_bytes << " bytes at " << offset << " in " << output_->size();
    std::memcpy(output_->data() + offset, bytes, length_bytes);
    return true;
  }

  std::string* output_;
};

// Fills memory of a fixed size, such as a descriptor block. A write that doesn't fit writes nothing
// and sets a flag that stays set.
class FixedByteWriter : public internal::ByteWriterMethods<FixedByteWriter> {
 public:
  // `output` must outlive the writer.
  explicit FixedByteWriter(absl::Span<std::byte> output) : output_(output) {}

  bool failed() const { return failed_; }
  size_t position() const { return position_; }
  size_t remaining() const { return failed_ ? 0 : output_.size() - position_; }

 private:
  friend class internal::ByteWriterMethods<FixedByteWriter>;
  bool Append(const std::byte* bytes, size_t length_bytes) {
    if (length_bytes > remaining()) {
      failed_ = true;
      return false;
    }
    if (length_bytes > 0) std::memcpy(output_.data() + position_, bytes, length_bytes);
    position_ += length_bytes;
    return true;
  }
  bool Overwrite(size_t offset, const std::byte* bytes, size_t length_bytes) {
    if (failed_) return false;
    TF_CHECK(offset <= position_ && length_bytes <= position_ - offset)
        << "patch of " << length_bytes << " bytes at " << offset << " in " << position_;
    std::memcpy(output_.data() + offset, bytes, length_bytes);
    return true;
  }

  absl::Span<std::byte> output_;
  size_t position_ = 0;
  bool failed_ = false;
};

}  // namespace twofold
