#pragma once
// What a walk over the builtin schemas has to look for although the object does not show it: the properties
// of a message that have a default or must be there. A message has up to fifty properties of which a handful
// count, so their places are listed once per process.
#include <cstdint>
#include <span>

#include "api/schema.hpp"

namespace orchestra::api {

enum class Mark : std::uint8_t {
  defaulted,  ///< has a default, or is printed always
  non_empty,
};

/// Calls `each(property)` for the properties of `object` that have the mark, in the order of the table.
template <class Each>
void for_each_marked(SchemaRef object, Mark mark, Each each);

/// Is there anything in `schema` or below it that defaulting may change? True where that is not known.
bool defaults_somewhere(SchemaRef schema);

namespace detail {
bool has_mark(const SchemaNode& node, Mark mark);
/// Places of the marked properties of an object of the builtin pool.
std::span<const std::uint16_t> marked_places(std::uint32_t object, Mark mark);
}  // namespace detail

template <class Each>
void for_each_marked(SchemaRef object, Mark mark, Each each) {
  if (object.pool() == &builtin_schemas()) {
    for (const std::uint16_t place : detail::marked_places(object.index(), mark)) each(object.at(place));
    return;
  }
  for (std::size_t i = 0; i < object.size(); ++i) {
    if (detail::has_mark(object.at(i).node(), mark)) each(object.at(i));
  }
}

}  // namespace orchestra::api
