// Lookups over the flat schema array. A message has at most some 50 properties side by side, so a linear
// search needs no index; where a name was found the last time is looked at first.
#include "api/schema.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_map>

namespace orchestra::api {
namespace {
/// Without the strlen() that a string_view of `stored` would cost: most candidates differ in the first
/// letter.
bool equal(const char* stored, std::string_view name) {
  if (name.empty() || *stored != name.front()) return name.empty() && *stored == '\0';
  return std::strncmp(stored, name.data(), name.size()) == 0 && stored[name.size()] == '\0';
}

/// Where this thread found names before, by a hash of object and name. A hint is looked at like any other
/// place, so a wrong one costs one look and nothing else.
constexpr std::size_t kHintCount = 1024;
thread_local std::array<std::uint16_t, kHintCount> kHints{};
std::size_t hint_of(SchemaRef object, std::string_view name) {
  std::size_t hash = name.size() * 31 + object.index();
  // Both ends and the middle: what tells apart the names of one object.
  if (!name.empty())
    hash += static_cast<unsigned char>(name.front()) * 131u +
            static_cast<unsigned char>(name.back()) * 1031u +
            static_cast<unsigned char>(name[name.size() / 2]) * 8191u;
  return (hash ^ hash >> 10) % kHintCount;
}
}  // namespace

SchemaRef SchemaRef::property(std::string_view json_name) const {
  if (kind() != SchemaKind::object) return {};
  const auto is_named = [&](std::size_t i) { return equal(pool_->strings + at(i).node().name, json_name); };
  std::uint16_t& hint = kHints[hint_of(*this, json_name)];
  if (hint < size() && is_named(hint)) return at(hint);
  for (std::size_t i = 0; i < size(); ++i) {
    if (!is_named(i)) continue;
    hint = static_cast<std::uint16_t>(i);
    return at(i);
  }
  return {};
}

SchemaRef SchemaRef::property(std::uint16_t number) const {
  if (kind() != SchemaKind::object || number == 0) return {};
  // Most messages number their fields in the order of the table.
  if (number <= size() && at(number - std::size_t{1}).number() == number) return at(number - std::size_t{1});
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
