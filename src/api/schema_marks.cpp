// The lists behind for_each_marked: see schema_marks.hpp.
#include "api/schema_marks.hpp"

#include <array>

namespace orchestra::api {
namespace {

struct Places {
  std::vector<std::uint32_t> first;  // by node, and one more
  std::vector<std::uint16_t> places;
};

Places places_of(Mark mark) {
  const SchemaPool& pool = builtin_schemas();
  Places out;
  out.first.reserve(pool.nodes.size() + 1);
  for (const SchemaNode& node : pool.nodes) {
    out.first.push_back(static_cast<std::uint32_t>(out.places.size()));
    for (std::uint16_t i = 0; node.kind == SchemaKind::object && i < node.count; ++i) {
      if (detail::has_mark(pool.nodes[node.first + i], mark)) out.places.push_back(i);
    }
  }
  out.first.push_back(static_cast<std::uint32_t>(out.places.size()));
  return out;
}

bool defaults_itself(const SchemaNode& node) {
  return node.hook != 0 || (node.kind == SchemaKind::map && (node.flags & SchemaNode::canonical) != 0);
}

/// By node. Types refer to one another in circles, so it is repeated until nothing is found any more.
std::vector<bool> nodes_with_defaults() {
  const std::span<const SchemaNode> nodes = builtin_schemas().nodes;
  std::vector<bool> found(nodes.size());
  for (bool changed = true; changed;) {
    changed = false;
    for (std::size_t at = nodes.size(); at-- > 0;) {
      if (found[at]) continue;
      const SchemaNode& node = nodes[at];
      bool some = defaults_itself(node);
      const bool nested = node.kind == SchemaKind::list || node.kind == SchemaKind::map;
      const std::size_t count = nested ? 1 : node.kind == SchemaKind::object ? node.count : 0;
      for (std::size_t i = node.first; i < node.first + count && !some; ++i)
        some = found[i] || (!nested && detail::has_mark(nodes[i], Mark::defaulted));
      if (!some) continue;
      found[at] = true;
      changed = true;
    }
  }
  return found;
}

}  // namespace

bool defaults_somewhere(SchemaRef schema) {
  static const std::vector<bool> kFound = nodes_with_defaults();
  return schema.pool() != &builtin_schemas() || kFound[schema.index()];
}

namespace detail {
bool has_mark(const SchemaNode& node, Mark mark) {
  if (mark == Mark::non_empty) return (node.flags & SchemaNode::non_empty) != 0;
  return node.default_json != 0 || (node.flags & SchemaNode::always) != 0;
}

std::span<const std::uint16_t> marked_places(std::uint32_t object, Mark mark) {
  static const std::array<Places, 2> kPlaces = {places_of(Mark::defaulted), places_of(Mark::non_empty)};
  const Places& all = kPlaces[static_cast<std::size_t>(mark)];
  return std::span(all.places).subspan(all.first[object], all.first[object + 1] - all.first[object]);
}
}  // namespace detail

}  // namespace orchestra::api
