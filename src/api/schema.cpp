// Lookups over the flat schema array. A message has at most some 50 properties side by side, so a linear
// search stays within a few cache lines and needs no index.
#include "api/schema.hpp"

#include <algorithm>
#include <unordered_map>

namespace orchestra::api {
namespace {
/// Without the strlen() that a string_view of `stored` would cost: most candidates differ in the first
/// letter.
bool equal(const char* stored, std::string_view name) {
  for (const char c : name) {
    if (*stored++ != c) return false;
  }
  return *stored == '\0';
}
}  // namespace

SchemaRef SchemaRef::property(std::string_view json_name) const {
  if (kind() != SchemaKind::object) return {};
  for (std::size_t i = 0; i < size(); ++i) {
    const SchemaRef candidate = at(i);
    if (equal(pool_->strings + candidate.node().name, json_name)) return candidate;
  }
  return {};
}

SchemaRef SchemaRef::property(std::uint16_t number) const {
  if (kind() != SchemaKind::object || number == 0) return {};
  for (std::size_t i = 0; i < size(); ++i) {
    const SchemaRef candidate = at(i);
    if (candidate.number() == number) return candidate;
  }
  return {};
}

SchemaRef builtin_type(std::string_view type_name) {
  static const auto kIndex = [] {
    std::unordered_map<std::string_view, std::uint32_t> index;
    const SchemaPool& pool = builtin_schemas();
    // Node i is the message with type number i (see generator/main.cpp).
    for (std::uint32_t i = 1; i < pool.type_names.size(); ++i)
      index.emplace(pool.strings + pool.type_names[i], i);
    return index;
  }();
  const auto found = kIndex.find(type_name);
  return found == kIndex.end() ? SchemaRef() : SchemaRef(&builtin_schemas(), found->second);
}

std::vector<std::string_view> split_words(std::string_view text, char separator) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    words.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return words;
}

}  // namespace orchestra::api
