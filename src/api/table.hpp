#pragma once
// Server-side printing: meta.k8s.io Table rows as upstream's pkg/printers/internalversion prints them.
#include <string>

#include "api/types.hpp"

namespace orchestra::api {

enum class IncludeObject : std::uint8_t { none, metadata, object };

/// columnDefinitions of the type.
ORC_API json::array table_columns(const TypeRecord& record);
/// The columns of a document that is shown, but not stored, by its kind (a Scale); null: it has no rows.
ORC_API const TypeRecord* document_record(std::string_view kind);
/// One row as JSON text, behind what `out` holds: cells, conditions, and `object` as asked for (`metadata` =
/// PartialObjectMetadata). `api_version` is that of the Table's group: "meta.k8s.io/v1" or
/// "meta.k8s.io/v1beta1".
ORC_API void append_table_row(std::string& out, const TypeRecord& record, const json::value& object, Now now,
                              IncludeObject include, std::string_view api_version = "meta.k8s.io/v1");
/// {"kind":"PartialObjectMetadata","apiVersion":...,"metadata":...}
ORC_API json::value partial_metadata(const json::value& object,
                                     std::string_view api_version = "meta.k8s.io/v1");
/// The cells alone, for tests and for printing without a server.
ORC_API json::array table_cells(const TypeRecord& record, const json::object& object, Now now);

}  // namespace orchestra::api
