#pragma once
// YAML whose places are remembered, for files that people write: whoever checks the tree can say where.
#include <cstddef>
#include <map>
#include <string>
#include <string_view>

#include "base/json.hpp"

namespace orchestra {

struct YamlMark {
  std::size_t line = 0, column = 0;  ///< from 1 on
};
struct MarkedYaml {
  json::value value;
  /// Paths as of find_duplicate_yaml_keys ("events[2].at"; the document itself is ""). A member is where its
  /// key begins; what an alias or a merge brings has no mark of its own.
  std::map<std::string, YamlMark, std::less<>> marks;
  /// "line 3 column 5", of the nearest path above that has a mark.
  std::string where(std::string_view path) const;
};
/// One document; duplicate keys are refused with their place.
ORC_API Result<MarkedYaml> parse_marked_yaml(std::string_view text);

}  // namespace orchestra
