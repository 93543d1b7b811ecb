// Rows and columns of a metav1.Table.
#include "api/table.hpp"

#include "api/crd/path_cell.hpp"
#include "api/meta.hpp"
#include "api/tree.hpp"
#include "base/json_text.hpp"

namespace orchestra::api {
namespace {
/// A storage class that claims get by default says so.
std::string name_cell(const TypeRecord& record, const json::object& meta) {
  std::string name(text_of(meta, "name"));
  if (record.kind != "StorageClass" || record.group != "storage.k8s.io") return name;
  const json::object& annotations = object_or_empty(meta, "annotations");
  for (const char* key :
       {"storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"}) {
    if (text_of(annotations, key) == "true") return name + " (default)";
  }
  return name;
}
}  // namespace

json::array table_columns(const TypeRecord& record) {
  json::array columns;
  for (const Column& column : record.columns) {
    columns.push_back(json::object{{"name", column.name},
                                   {"type", column.type},
                                   {"format", column.format},
                                   {"description", column.description},
                                   {"priority", column.priority}});
  }
  return columns;
}

const TypeRecord* document_record(std::string_view kind) {
  static const TypeRecord kScale = [] {
    TypeRecord record;
    record.kind = "Scale";
    record.builtin = false;  // its cells are found by their paths
    record.columns = {
        {"Name", "string", "name", "The name of the object that is scaled."},
        {"Desired", "integer", "", "How many replicas there should be.", 0, ".spec.replicas"},
        {"Available", "integer", "", "How many replicas there are.", 0, ".status.replicas"},
        {"Age", "date", "", "When the object was made.", 0, ".metadata.creationTimestamp"},
    };
    return record;
  }();
  return kind == kScale.kind ? &kScale : nullptr;
}

json::array table_cells(const TypeRecord& record, const json::object& object, Now now) {
  json::array cells;
  const bool leading_name = !record.columns.empty() && record.columns.front().format == "name";
  if (leading_name) cells.emplace_back(name_cell(record, object_or_empty(object, "metadata")));
  if (!record.builtin) {
    for (std::size_t i = 1; i < record.columns.size(); ++i)
      cells.push_back(path_cell(record.columns[i], object, now));
  } else if (record.hooks.cells != nullptr) {
    record.hooks.cells(object, now, cells);
  } else {
    cells.emplace_back(age(text_of(object_or_empty(object, "metadata"), "creationTimestamp"), now));
  }
  return cells;
}

json::value partial_metadata(const json::value& object, std::string_view api_version) {
  json::object out{{"kind", "PartialObjectMetadata"}, {"apiVersion", json::string(api_version)}};
  const json::object* meta = metadata(object);
  out["metadata"] = meta != nullptr ? json::value(*meta) : json::value(json::object());
  return out;
}

void append_table_row(std::string& out, const TypeRecord& record, const json::value& object, Now now,
                      IncludeObject include, std::string_view api_version) {
  static const json::object kEmpty;
  const json::object& fields = object.is_object() ? object.get_object() : kEmpty;
  out += "{\"cells\":";
  print_json(out, table_cells(record, fields, now));
  if (record.hooks.row_completed != nullptr) {
    const auto [reason, message] = record.hooks.row_completed(fields);
    if (!reason.empty()) {
      out += R"(,"conditions":[{"type":"Completed","status":"True","reason":)";
      print_quoted(out, reason);
      out += ",\"message\":";
      print_quoted(out, message);
      out += "}]";
    }
  }
  out += ",\"object\":";
  if (include == IncludeObject::object) {
    print_json(out, object);
  } else if (include == IncludeObject::metadata) {
    out += "{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":";
    print_quoted(out, api_version);
    out += ",\"metadata\":";
    if (const json::value* meta = fields.if_contains("metadata"); meta != nullptr && meta->is_object()) {
      print_json(out, *meta);
    } else {
      out += "{}";
    }
    out += '}';
  } else {
    out += "null";
  }
  out += '}';
}

}  // namespace orchestra::api
