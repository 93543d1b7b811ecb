// See schema_builder.hpp.
#include "api/crd/schema_builder.hpp"

#include <algorithm>
#include <map>

#include "api/tree.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

/// A schema that says nothing.
const json::object& anything() {
  static const json::object kAnything;
  return kAnything;
}

class Builder {
 public:
  explicit Builder(CustomSchema& out) : out_(out) {
    out_.strings.assign(1, '\0');
    out_.nodes.resize(2);
    out_.rules.assign(2, nullptr);
    out_.type_names = {0, 0};
    out_.type_descriptions = {0, 0};
  }

  void build(const std::string& type_name) {
    out_.type_names[1] = intern(type_name);
    const json::object& root = out_.document.is_object() ? out_.document.get_object() : anything();
    out_.type_descriptions[1] = intern(text_of(root, "description"));
    fill(1, root, true);
    out_.nodes[1].type_name = 1;
    out_.pool = {out_.nodes, out_.strings.c_str(), out_.type_names, out_.type_descriptions};
    out_.pool.rules = out_.rules;
    out_.pool.has_expressions = out_.has_expressions;
  }

 private:
  std::uint32_t intern(std::string_view text) {
    if (text.empty()) return 0;
    const auto [found, inserted] =
        interned_.emplace(std::string(text), static_cast<std::uint32_t>(out_.strings.size()));
    if (inserted) out_.strings.append(text).push_back('\0');
    return found->second;
  }
  std::uint32_t reserve(std::size_t count) {
    const auto first = static_cast<std::uint32_t>(out_.nodes.size());
    out_.nodes.resize(first + count);
    out_.rules.resize(first + count, nullptr);
    return first;
  }

  static SchemaKind scalar_kind(std::string_view type) {
    if (type == "string") return SchemaKind::string;
    if (type == "integer") return SchemaKind::int64;
    if (type == "number") return SchemaKind::number;
    if (type == "boolean") return SchemaKind::boolean;
    return SchemaKind::any;
  }

  void fill(std::uint32_t index, const json::object& schema, bool resource) {
    SchemaNode node = out_.nodes[index];  // keeps the name that the parent set
    const std::string_view type = text_of(schema, "type");
    node.flags |= SchemaNode::custom | SchemaNode::pointer;
    if (flag_of(schema, "nullable")) node.flags |= SchemaNode::nullable;
    if (text_of(schema, "x-kubernetes-map-type") == "atomic") node.flags |= SchemaNode::atomic;
    const bool preserve = flag_of(schema, "x-kubernetes-preserve-unknown-fields");
    const bool embedded = flag_of(schema, "x-kubernetes-embedded-resource");
    if (preserve) node.flags |= SchemaNode::preserve_unknown;
    if (embedded) node.flags |= SchemaNode::embedded;
    node.description = intern(text_of(schema, "description"));
    if (const json::value* value = schema.if_contains("default")) {
      node.default_json = intern(to_json(*value));
      out_.has_defaults = true;
    }
    out_.rules[index] = &schema;
    if (!array_or_empty(schema, "x-kubernetes-validations").empty()) out_.has_expressions = true;
    if (type == "array") {
      fill_list(node, schema);
    } else if (type == "object" || resource || embedded) {
      fill_object(node, schema, resource || embedded, preserve);
    } else {
      node.kind = scalar_kind(type);
    }
    out_.nodes[index] = node;
  }

  void fill_list(SchemaNode& node, const json::object& schema) {
    node.kind = SchemaKind::list;
    const std::string_view kind = text_of(schema, "x-kubernetes-list-type");
    node.list_kind = kind == "map" ? ListKind::map : kind == "set" ? ListKind::set : ListKind::atomic;
    if (node.list_kind == ListKind::map) {
      std::string keys;
      for (const json::value& key : array_or_empty(schema, "x-kubernetes-list-map-keys")) {
        if (key.is_string()) keys += (keys.empty() ? "" : ",") + std::string(key.get_string());
      }
      node.words = intern(keys);
    }
    node.first = reserve(1);
    fill(node.first, object_or_empty(schema, "items"), false);
  }

  void fill_object(SchemaNode& node, const json::object& schema, bool resource, bool preserve) {
    const json::object& properties = object_or_empty(schema, "properties");
    const json::value* more = schema.if_contains("additionalProperties");
    if (!resource && properties.empty() && more != nullptr && (more->is_object() || more->is_bool())) {
      node.kind = SchemaKind::map;
      node.first = reserve(1);
      fill(node.first, more->is_object() ? more->get_object() : anything(), false);
      return;
    }
    if (!resource && properties.empty() && preserve) {
      node.kind = SchemaKind::any;
      return;
    }
    node.kind = SchemaKind::object;
    // Properties, and others besides.
    if (more != nullptr && more->is_bool() && more->get_bool()) node.flags |= SchemaNode::preserve_unknown;
    std::vector<std::string_view> names;
    for (const auto& [name, below] : properties) names.push_back(name);
    if (resource) {
      for (const std::string_view name : {"apiVersion", "kind", "metadata"}) {
        if (!properties.contains(name)) names.push_back(name);
      }
    }
    node.count = static_cast<std::uint16_t>(names.size());
    node.first = reserve(names.size());
    for (std::size_t i = 0; i < names.size(); ++i) {
      const auto at = node.first + static_cast<std::uint32_t>(i);
      out_.nodes[at].name = intern(names[i]);
      const json::object& below = object_or_empty(properties, names[i]);
      if (resource && names[i] == "metadata") {
        import(at, builtin_type("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"));
        restrict_names(at, object_or_empty(below, "properties"));
      } else if (resource && !properties.contains(names[i])) {
        out_.nodes[at].kind = SchemaKind::string;
      } else {
        fill(at, below, false);
      }
    }
  }

  /// Of metadata a definition may restrict the names; everything else there is the server's.
  void restrict_names(std::uint32_t metadata, const json::object& properties) {
    const SchemaNode node = out_.nodes[metadata];
    for (std::uint32_t i = 0; i < node.count; ++i) {
      const std::string_view name = out_.strings.c_str() + out_.nodes[node.first + i].name;
      if (name != "name" && name != "generateName") continue;
      if (const json::object* rules = object_of(properties, name)) out_.rules[node.first + i] = rules;
    }
  }

  /// Copies a builtin node and what it reaches.
  void import(std::uint32_t index, SchemaRef from) {
    SchemaNode node = from.node();
    node.name = from.name().empty() ? out_.nodes[index].name : intern(from.name());
    if (out_.nodes[index].name != 0) node.name = out_.nodes[index].name;
    node.default_json = intern(from.default_json());
    node.words = intern(from.keys().empty() ? from.enum_values() : from.keys());
    node.description = intern(from.description());
    node.type_name = 0;
    if (!from.type_name().empty()) {
      node.type_name = static_cast<std::uint16_t>(out_.type_names.size());
      out_.type_names.push_back(intern(from.type_name()));
      out_.type_descriptions.push_back(intern(from.type_description()));
    }
    if (from.kind() == SchemaKind::object) {
      node.first = reserve(from.size());
      for (std::size_t i = 0; i < from.size(); ++i)
        import(node.first + static_cast<std::uint32_t>(i), from.at(i));
    } else if (from.kind() == SchemaKind::list || from.kind() == SchemaKind::map) {
      node.first = reserve(1);
      import(node.first, from.element());
    }
    out_.nodes[index] = node;
  }

  CustomSchema& out_;
  std::map<std::string, std::uint32_t> interned_;
};

}  // namespace

std::shared_ptr<const CustomSchema> build_schema(const json::value& schema, const std::string& type_name) {
  auto out = std::make_shared<CustomSchema>();
  out->document = schema;
  Builder(*out).build(type_name);
  return out;
}

}  // namespace orchestra::api
