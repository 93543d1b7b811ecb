// Runs a fuzz target as a plain test: every file of tests/fuzz/corpus/NAME, then seeded mutations of them.
// Called as fuzz_NAME it runs that target, under its own name all of them. FUZZ_SEED and FUZZ_RUNS replay or
// lengthen a run; a crash leaves the seed and the run number printed.
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

#include "tests/fuzz/registered.hpp"
#include "tests/support/paths.hpp"

namespace {

void run_target(const std::string& name, FuzzTarget::Function function) {
  std::vector<std::string> corpus{""};
  const std::filesystem::path folder = std::string(ORCHESTRA_SOURCE_DIR) + "/tests/fuzz/corpus/" + name;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(folder, none)) {
    std::ifstream file(entry.path(), std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  const auto call = [function](const std::string& text) {
    function(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
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
}

}  // namespace

int main() {
  const std::string program = program_invocation_short_name;
  const auto& targets = FuzzTarget::all();
  std::size_t run = 0;
  for (const auto& [name, function] : targets) {
    if (program != "fuzzers" && program != "fuzz_" + name) continue;
    run_target(name, function);
    ++run;
  }
  if (run == 0) {
    std::fprintf(stderr, "%s: no such target; this program is called fuzz_NAME or fuzzers\n",
                 program.c_str());
    return 2;
  }
  std::printf("%zu passed, 0 failed, 0 skipped\n", run);
  return 0;
}
