// ByteReader over arbitrary bytes: the first half chooses what is read from the second.

#include <cstddef>
#include <cstdint>

#include "storage/base/bytes.h"
#include "storage/base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using twofold::ByteReader;
  const absl::Span<const std::byte> input(reinterpret_cast<const std::byte*>(data), size);
  ByteReader choices(input.first(size / 2));
  ByteReader reader(input.subspan(size / 2));
  while (!choices.finished() && !reader.failed()) {
    const size_t before = reader.position();
    const uint8_t choice = choices.ReadU8();
    switch (choice % 8) {
      case 0:
        reader.ReadU8();
        break;
      case 1:
        reader.ReadU16Be();
        break;
      case 2:
        reader.ReadU32Le();
        break;
      case 3:
        reader.ReadU64Be();
        break;
      case 4: {
        // What is accepted must be what the writer makes of the value.
        const uint64_t value = reader.ReadVarint64();
        if (reader.failed()) break;
        std::string again;
        twofold::ByteWriter(&again).WriteVarint64(value);
        TF_CHECK_EQ(again.size(), reader.position() - before);
        break;
      }
      case 5:
        TF_CHECK_LE(reader.ReadLengthPrefixed(choice).size(), choice);
        break;
      case 6:
        reader.ReadBytes(choices.ReadVarint64());
        break;
      default:
        reader.Skip(choice);
        break;
    }
    TF_CHECK_GE(reader.position(), before);
    TF_CHECK_LE(reader.position() + reader.remaining(), size - size / 2);
    if (choices.failed()) break;
  }
  return 0;
}
