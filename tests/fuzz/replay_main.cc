// Runs a fuzz target without libFuzzer: over every file of its corpus folder and over a fixed
// number of mutations of each, the same ones every time. So each ordinary test run repeats what
// fuzzing has found, and tries a little more.
//
//   <target>_fuzz CORPUS_FOLDER [MUTATIONS]
//   <target>_fuzz FILE 0                       one input alone
//
// The folder may be missing; then only mutations of "" are run.

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

constexpr int kDefaultMutations = 500;  // of each input

// A generator of its own, so that a change of the product's generator changes no test input.
class SplitMix {
 public:
  explicit SplitMix(std::uint64_t seed) : state_(seed) {}
  std::uint64_t Next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  std::size_t Below(std::size_t bound) { return static_cast<std::size_t>(Next() % bound); }

 private:
  std::uint64_t state_;
};

std::string current_input;

// So that a failure can be looked at: as libFuzzer does.
void SaveInput(int) {
  std::FILE* file = std::fopen("crash-input", "wb");
  if (file != nullptr) {
    std::fwrite(current_input.data(), 1, current_input.size(), file);
    std::fclose(file);
    std::fputs("the input is in crash-input\n", stderr);
  }
  std::signal(SIGABRT, SIG_DFL);
}

void RunOne(const std::string& input) {
  current_input = input;
  // An exact heap copy lets AddressSanitizer see a read past the end.
  const std::vector<std::uint8_t> copy(input.begin(), input.end());
  LLVMFuzzerTestOneInput(copy.data(), copy.size());
}

std::string Mutate(std::string input, SplitMix& random) {
  const int changes = 1 + static_cast<int>(random.Below(4));
  for (int i = 0; i < changes; ++i) {
    const std::size_t at = random.Below(input.size() + 1);
    switch (random.Below(5)) {
      case 0:  // Cut the tail.
        input.resize(at);
        break;
      case 1:  // Insert a byte.
        input.insert(at, 1, static_cast<char>(random.Next()));
        break;
      case 2:  // Flip one bit.
        if (at < input.size()) {
          input[at] =
              static_cast<char>(static_cast<unsigned char>(input[at]) ^ (1u << random.Below(8)));
        }
        break;
      case 3:  // Put an extreme value.
        if (at < input.size()) input[at] = random.Below(2) == 0 ? '\0' : '\xff';
        break;
      default:  // Double a piece.
        input.insert(at, input.substr(at, random.Below(16)));
        break;
    }
  }
  return input;
}

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) {
    std::fprintf(stderr, "usage: %s CORPUS_FOLDER [MUTATIONS]\n", argv[0]);
    return 2;
  }
  const int mutations = argc == 3 ? std::atoi(argv[2]) : kDefaultMutations;
  std::vector<std::filesystem::path> files;
  if (std::filesystem::is_directory(argv[1])) {
    for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
      files.push_back(entry.path());
    }
    // In the same order on every machine.
    std::sort(files.begin(), files.end());
  } else if (std::filesystem::exists(argv[1])) {
    files.emplace_back(argv[1]);
  }
  std::vector<std::string> inputs = {std::string()};
  for (const auto& file : files) inputs.push_back(ReadFile(file));
  std::signal(SIGABRT, SaveInput);
  SplitMix random(1);
  for (const std::string& input : inputs) {
    RunOne(input);
    for (int i = 0; i < mutations; ++i) RunOne(Mutate(input, random));
  }
  std::printf("%zu inputs, %d mutations of each\n", inputs.size(), mutations);
  return 0;
}
