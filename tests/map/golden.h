// Golden bytes: what an encoder must give, in tests/golden/. They change only together with the
// document of the format.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/escaping.h"

namespace twofold {

// The bytes of tests/golden/`name`: hexadecimal digits; what follows a # in a line, and white
// space, don't count.
inline std::string Golden(const std::string& name) {
  std::ifstream file("tests/golden/" + name);
  EXPECT_TRUE(file.is_open()) << "tests/golden/" << name << ": tests run in the root of the source";
  std::string digits;
  std::string line;
  while (std::getline(file, line)) {
    for (const char c : line.substr(0, line.find('#'))) {
      if (std::isxdigit(static_cast<unsigned char>(c)) != 0) digits += c;
    }
  }
  return absl::HexStringToBytes(digits);
}

}  // namespace twofold
