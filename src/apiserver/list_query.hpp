#pragma once
// What a list or watch asks for: selectors, page, revision; parsed once and checked in upstream's words.
#include <optional>
#include <string>

#include "api/types.hpp"
#include "apiserver/call.hpp"
#include "apiserver/stored_object.hpp"
#include "apiserver/view.hpp"
#include "base/json.hpp"
#include "orchestra/selector.hpp"

namespace orchestra::apiserver {

struct ListQuery {
  Selector labels;
  FieldSelector fields;
  std::size_t limit = 0;
  std::string continue_token;
  std::string resource_version;  ///< as given; empty = unset
  std::string version_match;
  /// Of a type that somebody else converts, fields are those of the version that is asked for, which the
  /// stored header does not know: matches() leaves them to matches_converted().
  bool fields_late = false;
  bool selective() const { return !labels.empty() || !fields.empty(); }
};

Result<ListQuery> parse_list_query(const api::TypeRecord& type, const Query& query);
/// Where resourceVersionMatch may stand (of a list; a watch has rules of its own).
Result<void> check_version_match(const ListQuery& query);
/// A resourceVersion as a number; 400 if it is none.
Result<Revision> parse_resource_version(const std::string& text);

/// Does a stored object match? `tail` is its key behind the type's prefix: NAMESPACE/NAME.
bool matches(const ListQuery& query, const StoredView& view, std::string_view tail);
/// The rest, of the object in the version of the request.
bool matches_converted(const ListQuery& query, const api::TypeRecord& type, const json::value& object);
/// All keys that the request may show: of a type, of a namespace, or the one that the fields name.
KeyRange range_of(const api::TypeRecord& type, const std::string& ns, const ListQuery& query);

}  // namespace orchestra::apiserver
