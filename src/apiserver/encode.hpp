#pragma once
// Objects out: what Accept asks for, and one object in each of the forms a client may want.
#include <optional>
#include <string>
#include <string_view>

#include "apiserver/call.hpp"
#include "apiserver/core.hpp"
#include "apiserver/view.hpp"

namespace orchestra::apiserver {

/// Forms besides JSON and YAML in which an answer can be.
struct Forms {
  bool protobuf = false;
  bool table = true;
};
/// The best form that we have for an Accept header: 406 if there is none.
Result<Representation> negotiate(std::string_view accept, const Query& query, Forms forms = {});
/// Messages: of builtin kinds that are stored or reviewed, but not of definitions of types, whose schemas are
/// JSON. Rows: of what is stored or computed, also through a subresource of the same kind; of a Scale.
Forms forms_of(const api::TypeRecord* type, std::string_view subresource);
/// An enveloped message of a builtin kind, by its own apiVersion and kind where `schema` is empty;
/// `unsupported` for kinds without one.
Result<std::string> protobuf_text(const json::value& tree, api::SchemaRef schema);
/// The whole list around items that append_list_item made.
Result<std::string> protobuf_list(const api::TypeRecord& type, const std::string& api_version,
                                  const Representation& want, const std::string& list_metadata,
                                  const std::string& items);
std::string content_type_of(const Representation& want);

/// One stored object as an answer;
/// `written`: its tree, where that is at hand.
Reply object_reply(ApiCore& core, const api::TypeRecord& type, const Call& call, const Value& stored,
                   Revision revision, int code, const json::value* written = nullptr);
/// A tree (a subresource, a review) as an answer.
Reply tree_reply(const ApiCore& core, const Call& call, const json::value& tree, int code);
/// The JSON of one object in a version of its type; empty: as it is stored.
Result<std::string> json_in_version(const api::TypeRecord& type, std::string_view version,
                                    const StoredView& view, Revision revision, bool managed_fields);
/// The text of one object for a watch event or a list item; Tables are one row each.
Result<std::string> object_text(const api::TypeRecord& type, std::string_view version,
                                const Representation& want, const StoredView& view, Revision revision,
                                Now now, bool with_columns);
/// The object of a BOOKMARK: kind, apiVersion and resourceVersion only; the end of the initial events of a
/// WatchList is marked by an annotation. `version` empty: the type's own.
std::string bookmark_json(const api::TypeRecord& type, std::string_view version, Revision revision,
                          bool initial_end);
/// Opening of a list up to and including `"items":[` or `"rows":[`.
std::string list_opening(const api::TypeRecord& type, const std::string& api_version,
                         const Representation& want, const std::string& list_metadata);
/// One item of a list from its tree: itself, its metadata, or a row.
void append_row_or_object(std::string& out, const api::TypeRecord& type, const Representation& want,
                          const json::value& tree, Now now);
Result<void> append_list_item(std::string& out, const api::TypeRecord& type, std::string_view version,
                              const Representation& want, const StoredView& view, Revision revision, Now now);

}  // namespace orchestra::apiserver
