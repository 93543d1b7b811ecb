#pragma once
// What every test includes: doctest, skips that name themselves, temporary folders.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace orchestra::test {
void record_skip(const std::string& test, const std::string& reason);

/// A folder that is gone at the end of the scope.
class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "orc-test-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  std::string path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};
}  // namespace orchestra::test

/// Ends the test case as skipped, with the reason; counts as neither passed nor failed.
#define ORC_SKIP(name, reason)                       \
  do {                                               \
    ::orchestra::test::record_skip((name), (reason));\
    return;                                          \
  } while (false)
