// Runs a fuzz target as a plain test: every file of tests/fuzz/corpus/NAME, then seeded mutations of them.
// FUZZ_SEED and FUZZ_RUNS replay or lengthen a run; a crash leaves the seed and the run number printed.
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "tests/support/paths.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int main() {
  std::vector<std::string> corpus{""};
  // The program is fuzz_NAME.
  const std::string program = program_invocation_short_name;
  const std::string name = program.substr(program.find('_') + 1);
  const std::filesystem::path folder = std::string(ORCHESTRA_SOURCE_DIR) + "/tests/fuzz/corpus/" + name;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(folder, none)) {
    std::ifstream file(entry.path(), std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  const auto call = [](const std::string& text) {
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
  };
  for (const std::string& text : corpus) call(text);
  const char* seed_text = std::getenv("FUZZ_SEED");
  const char* runs_text = std::getenv("FUZZ_RUNS");
  const unsigned seed = seed_text != nullptr ? static_cast<unsigned>(std::atoi(seed_text)) : 1;
  const int runs = runs_text != nullptr ? std::atoi(runs_text) : 3000;
  std::fprintf(stderr, "fuzz %s: corpus %zu, seed %u, %d mutations\n", name.c_str(), corpus.size(), seed,
               runs);
  std::mt19937 random(seed);
  const auto below = [&](std::size_t n) { return n == 0 ? 0 : random() % n; };
  for (int run = 0; run < runs; ++run) {
    std::string text = corpus[below(corpus.size())];
    for (std::size_t edits = 1 + below(6); edits > 0; --edits) {
      switch (below(5)) {
        case 0:
          if (!text.empty()) text[below(text.size())] = static_cast<char>(random());
          break;
        case 1:
          text.insert(below(text.size() + 1), 1 + below(8), static_cast<char>(random()));
          break;
        case 2:
          if (!text.empty()) text.erase(below(text.size()), 1 + below(8));
          break;
        case 3:
          text.resize(below(text.size() + 1));
          break;
        default: {
          const std::string& other = corpus[below(corpus.size())];
          if (!other.empty())
            text.insert(below(text.size() + 1), other.substr(below(other.size()), 1 + below(32)));
        }
      }
    }
    call(text);
  }
  std::printf("1 passed, 0 failed, 0 skipped\n");
  return 0;
}
