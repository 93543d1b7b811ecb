#pragma once
// Schemas of the type tables as OpenAPI schema objects, for versions 2 and 3.
#include <map>
#include <set>
#include <string>

#include "api/types.hpp"

namespace orchestra::api {

/// Collects the definitions that a document refers to, each once.
class OpenApiSchemas {
 public:
  explicit OpenApiSchemas(bool v3) : v3_(v3) {}
  /// Adds the type, its list (where it has one) and all they refer to.
  void add_kind(const TypeRecord& record, const TypeVersion& version);
  /// Adds the kinds of a group version that are no resources: the bodies of subresources (Scale, Eviction,
  /// TokenRequest). An empty version: those of all.
  void add_bodies(std::string_view group, std::string_view version);
  /// Adds a message type by its full name ("io.k8s.apimachinery.pkg.apis.meta.v1.Status").
  void add_type(std::string_view type_name);
  /// The body of one subresource, or another message that is a kind.
  void add_body(const std::string& type_name, const GroupVersionKind& kind);
  /// What every document has: Status, DeleteOptions, WatchEvent.
  void add_common();
  /// Name to schema, sorted by name.
  json::object take();
  /// "#/components/schemas/NAME" or "#/definitions/NAME"
  std::string reference(std::string_view type_name) const;

 private:
  void queue(SchemaRef message);
  void drain();
  void special(const char* name, json::object schema);
  json::object message(SchemaRef schema);
  json::object custom(SchemaRef schema);
  json::object property(SchemaRef schema);
  json::object type(SchemaRef schema);
  json::object refer(std::string_view type_name);
  void note_gvk(const std::string& type_name, const GroupVersionKind& gvk);

  bool v3_;
  std::map<std::string, json::object> done_;
  std::set<std::string> seen_;
  std::vector<SchemaRef> pending_;
  std::map<std::string, json::array> gvks_;
};

}  // namespace orchestra::api
