#pragma once
// A set of field paths as a tree: who owns which fields of an object, in the form that managedFields has.
//
// structured-merge-diff's fieldpath.Set (v4) and its FieldsV1 text: a path element is a field name (f:), the
// keys of an item of a list of type map (k:), the value of an item of a set (v:) or an index (i:). The tree
// node of a path says whether the path itself is a member (".": {}), and which longer ones are.
// Order of elements: names, keys, values, indexes; it is the order of the text.
#include <boost/json.hpp>
#include <compare>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/result.hpp"

namespace orchestra::api {
namespace json = boost::json;

struct PathElement {
  enum class Kind : std::uint8_t { field, key, value, index };
  Kind kind = Kind::field;
  std::string name;   ///< field
  json::value value;  ///< key: an object whose names are sorted; value; index: a number

  static PathElement field(std::string_view name) { return {Kind::field, std::string(name), nullptr}; }
  static std::optional<PathElement> parse(std::string_view text);
  /// "f:name", `k:{"name":"web"}`, `v:"x"`, "i:3"
  std::string text() const;
  /// ".name", `[name="web"]`, `[="x"]`, "[3]": as conflicts print paths.
  std::string path_text() const;
  friend bool operator<(const PathElement& a, const PathElement& b);
};

struct FieldSet {
  bool member = false;
  std::map<PathElement, FieldSet> children;

  bool empty() const { return !member && children.empty(); }
  /// Drops nodes that hold nothing.
  void tidy();
  /// Paths of the members, as conflicts print them.
  std::vector<std::string> paths() const;

  static FieldSet united(const FieldSet& a, const FieldSet& b);
  static FieldSet common(const FieldSet& a, const FieldSet& b);
  static FieldSet without(const FieldSet& a, const FieldSet& b);
  friend bool operator==(const FieldSet& a, const FieldSet& b);

  /// FieldsV1. Depth and size are bounded by the body that holds it.
  static Result<FieldSet> from_json(const json::value& fields);
  json::object to_json() const;
};

}  // namespace orchestra::api
