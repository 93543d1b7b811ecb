// The JSONPath of a column of a custom resource (first line) on an object (the rest): the cell is null or of
// the column's type, the same each time, and a path of plain names finds what is there.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "api/crd/path_cell.hpp"
#include "base/json.hpp"

namespace {
using namespace orchestra;

/// What a path of names, each behind one dot, leads to; unset where the path is of another form.
bool plain(std::string_view path, const json::value*& at) {
  while (!path.empty()) {
    if (path.front() != '.') return false;
    path.remove_prefix(1);
    const std::size_t end = std::min(path.find('.'), path.size());
    const std::string_view name = path.substr(0, end);
    if (name.empty() || name.find_first_of("[]\\*'\"") != std::string_view::npos) return false;
    if (at != nullptr) at = at->is_object() ? at->get_object().if_contains(name) : nullptr;
    path.remove_prefix(end);
  }
  return true;
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::size_t line = text.find('\n');
  if (line == std::string_view::npos) return 0;
  const auto object = parse_json(text.substr(line + 1));
  if (!object || !object->is_object()) return 0;
  api::Column column{.name = "C", .json_path = std::string(text.substr(0, line))};
  const json::value before = *object;
  for (const char* type : {"string", "integer", "number", "boolean", "date"}) {
    column.type = type;
    const json::value cell = api::path_cell(column, object->get_object(), Now{});
    const bool fits = cell.is_null() || (column.type == "string" || column.type == "date" ? cell.is_string()
                                         : column.type == "boolean"                       ? cell.is_bool()
                                                                                          : cell.is_number());
    if (!fits || cell != api::path_cell(column, object->get_object(), Now{})) std::abort();
  }
  if (*object != before) std::abort();
  column.type = "string";
  const json::value cell = api::path_cell(column, object->get_object(), Now{});
  const json::value* found = &*object;
  if (plain(column.json_path, found)) {
    if (cell.is_null() != (found == nullptr)) std::abort();
    if (found != nullptr && found->is_string() && cell != *found) std::abort();
  }
  return 0;
}
