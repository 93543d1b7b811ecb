#pragma once
// A set of field paths as a tree: who owns which fields of an object, in the form that managedFields has.
//
// structured-merge-diff's fieldpath.Set (v4) and its FieldsV1 text: a path element is a field name (f:), the
// keys of an item of a list of type map (k:), the value of an item of a set (v:) or an index (i:). The tree
// node of a path says whether the path itself is a member (".": {}), and which longer ones are.
// Order of elements: names, keys, values, indexes; it is the order of the text.
// The children of a node lie side by side in that order, so that sets are united, cut and compared by walking
// two rows at once.
#include <boost/json.hpp>
#include <compare>
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
  /// field: its name; else JSON without white space: of an object whose names are sorted (key), a value, a
  /// number.
  std::string word;

  static PathElement field(std::string_view name) { return {Kind::field, std::string(name)}; }
  static std::optional<PathElement> parse(std::string_view text);
  /// "f:name", `k:{"name":"web"}`, `v:"x"`, "i:3"
  std::string text() const;
  /// ".name", `[name="web"]`, `[="x"]`, "[3]": as conflicts print paths.
  std::string path_text() const;
  friend std::weak_ordering operator<=>(const PathElement& a, const PathElement& b);
  friend bool operator==(const PathElement& a, const PathElement& b) = default;
};

struct FieldNode;

/// The nodes below one, each element once, in order. References live until the next change.
class FieldNodes {
 public:
  using Row = std::vector<FieldNode>;
  bool empty() const;
  void reserve(std::size_t count);
  Row::const_iterator begin() const;
  Row::const_iterator end() const;
  Row::iterator begin();
  Row::iterator end();
  Row::const_iterator find(const PathElement& element) const;
  Row::const_iterator find_field(std::string_view name) const;
  Row::iterator find_field(std::string_view name);
  /// Adds it where it is missing.
  struct FieldSet& operator[](PathElement element);
  void erase_field(std::string_view name);
  Row::iterator erase(Row::const_iterator at);
  /// Behind the last one. Whoever appends out of order, or an element twice, calls settle() before anything
  /// else.
  FieldSet& append(PathElement element, FieldSet below);
  /// Puts the row in order; of equal elements the first stays, united with the others.
  void settle();

 private:
  Row row_;
};

struct FieldSet {
  bool member = false;
  FieldNodes children;

  bool empty() const { return !member && children.empty(); }
  /// Paths of the members, as conflicts print them.
  std::vector<std::string> paths() const;

  bool contains(const FieldSet& other) const;
  static FieldSet united(FieldSet a, const FieldSet& b);
  static FieldSet united(FieldSet a, FieldSet&& b);
  static FieldSet common(const FieldSet& a, const FieldSet& b);
  static FieldSet without(FieldSet a, const FieldSet& b);
  friend bool operator==(const FieldSet& a, const FieldSet& b);

  /// FieldsV1. Depth and size are bounded by the body that holds it.
  static Result<FieldSet> from_json(const json::value& fields);
  json::object to_json(const json::storage_ptr& memory = {}) const;
  /// The same as a text, behind what `out` holds.
  void print(std::string& out) const;
  /// What print() wrote at the beginning of `text`, which moves behind it; nullopt: it is in another form,
  /// and from_json may read it.
  static std::optional<FieldSet> take_printed(std::string_view& text);
};

struct FieldNode {
  PathElement element;
  FieldSet below;
  friend bool operator==(const FieldNode& a, const FieldNode& b) {
    return a.element == b.element && a.below == b.below;
  }
};

inline void FieldNodes::reserve(std::size_t count) { row_.reserve(count); }
inline bool FieldNodes::empty() const { return row_.empty(); }
inline FieldNodes::Row::const_iterator FieldNodes::begin() const { return row_.begin(); }
inline FieldNodes::Row::const_iterator FieldNodes::end() const { return row_.end(); }
inline FieldNodes::Row::iterator FieldNodes::begin() { return row_.begin(); }
inline FieldNodes::Row::iterator FieldNodes::end() { return row_.end(); }
inline FieldNodes::Row::iterator FieldNodes::erase(Row::const_iterator at) { return row_.erase(at); }

}  // namespace orchestra::api
