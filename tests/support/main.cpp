// Entry of every test program: runs doctest and ends with one line `N passed, N failed, N skipped`.
#define DOCTEST_CONFIG_IMPLEMENT
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/support/test.hpp"

namespace {
struct Skips {
  std::vector<std::string> lines;
};
Skips& skips() {
  static Skips all;
  return all;
}
unsigned g_passed = 0, g_failed = 0;

/// One TAP line per case where a guest of tests/vm asks for them: ORCHESTRA_TAP is the prefix of their names.
void print_tap(bool ok, const char* name, const std::string& skipped) {
  const char* prefix = std::getenv("ORCHESTRA_TAP");
  if (prefix == nullptr) return;
  std::printf("%sok - %s: %s%s%s\n", ok ? "" : "not ", prefix, name, skipped.empty() ? "" : " # SKIP ",
              skipped.c_str());
  std::fflush(stdout);
}

// Counts test cases: doctest's own summary does not know skips at run time.
struct CountingReporter : doctest::IReporter {
  explicit CountingReporter(const doctest::ContextOptions&) {}
  std::size_t skips_before = 0;
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  const char* name = "";
  void test_case_start(const doctest::TestCaseData& test) override {
    skips_before = skips().lines.size();
    name = test.m_name;
  }
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats& stats) override {
    if (stats.failure_flags != 0) {
      ++g_failed;
      print_tap(false, name, "");
    } else if (skips().lines.size() == skips_before) {
      ++g_passed;
      print_tap(true, name, "");
    } else {
      print_tap(true, name, skips().lines.back());
    }
  }
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};
}  // namespace

namespace orchestra::test {
void record_skip(const std::string& test, const std::string& reason) {
  skips().lines.push_back(test + ": " + reason);
}
}  // namespace orchestra::test

REGISTER_LISTENER("counting", 1, CountingReporter);

int main(int argc, char** argv) {
  doctest::Context context;
  context.setOption("no-path-filenames", true);
  context.applyCommandLine(argc, argv);
  const int status = context.run();
  if (context.shouldExit() && g_passed + g_failed == 0) return status;
  for (const std::string& line : skips().lines) std::printf("SKIP %s\n", line.c_str());
  std::printf("%u passed, %u failed, %zu skipped\n", g_passed, g_failed, skips().lines.size());
  return status;
}
