#pragma once
// .dockerignore: which files of a context are not part of the build. Pure.
#include <string>
#include <string_view>
#include <vector>

namespace orchestra::image {

/// Go's filepath.Match, and `**` for any number of directories. Paths are relative, with `/`.
bool match_path(std::string_view pattern, std::string_view path);

class IgnoreList {
 public:
  IgnoreList() = default;
  explicit IgnoreList(std::string_view text);
  /// The last pattern that matches the path or one of its parents decides; `!pattern` takes back.
  bool ignores(std::string_view path) const;
  /// False if nothing below an ignored directory can be taken back: then it need not be looked into.
  bool may_take_back() const { return has_exceptions_; }
  bool empty() const { return rules_.empty(); }

 private:
  struct Rule {
    std::string pattern;
    bool take_back = false;
  };
  std::vector<Rule> rules_;
  bool has_exceptions_ = false;
};

}  // namespace orchestra::image
