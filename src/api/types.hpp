#pragma once
// What the API server knows about a resource type: one TypeRecord each, builtin or custom.
//
// No code outside of src/api asks "which kind is this?": it asks the record's flags and calls its hooks.
// The registry of builtin types is immutable and built once; a custom one is added by copying the registry
// (records are shared), so readers never lock.
#include <boost/json.hpp>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/field_error.hpp"
#include "api/schema.hpp"
#include "orchestra/env.hpp"
#include "orchestra/object.hpp"
#include "orchestra/result.hpp"

namespace orchestra::api {
namespace json = boost::json;

/// The API level of fields, defaults and messages, and what /version and helm see.
inline constexpr const char* kApiLevelMajor = "1";
inline constexpr const char* kApiLevelMinor = "35";

struct Column {
  std::string name;
  std::string type = "string";  ///< string, integer, date, ...
  std::string format;           ///< "name" for the name column
  std::string description;
  int priority = 0;            ///< > 0: only with -o wide
  std::string json_path = {};  ///< custom types: where the cell is found (".spec.replicas")
};

/// Where scale finds its numbers.
struct ScalePaths {
  std::string replicas = "/spec/replicas", current = "/status/replicas", selector = "/spec/selector";
  bool selector_is_text = false;  ///< else a LabelSelector or a plain map
};

struct Subresource {
  std::string name;       ///< "status", "scale", "log", ...
  GroupVersionKind kind;  ///< of its own body: Scale autoscaling/v1, Eviction policy/v1, else the parent's
  std::vector<std::string> verbs;
};

/// A field selector: the label that clients use and where it is found.
struct SelectableField {
  std::string label;    ///< "spec.nodeName"
  std::string pointer;  ///< "/spec/nodeName"
  std::string absent;   ///< its value where the field is absent: "", "false", "0"
  std::string stored;   ///< its label in stored headers where that differs (events.k8s.io)
  bool offered = true;  ///< false: of another version of the type; kept with objects, not for selectors here
};

/// Which names metadata.name accepts (spec 5).
enum class NameRule : std::uint8_t { dns_subdomain, dns_label, rfc1035_label, path_segment };

/// How a version differs from what is stored, where more than apiVersion does (Events, autoscaling/v1).
struct VersionConversion {
  void (*to_stored)(json::object& object) = nullptr;
  void (*from_stored)(json::object& object) = nullptr;
};

struct TypeVersion {
  std::string name;  ///< "v1"
  SchemaRef schema;
  bool served = true;
  bool storage = true;
  const VersionConversion* conversion = nullptr;
  std::string deprecation;  ///< what every client of it is told in a warning; empty: nothing
};

/// Conversion of a custom type between versions by somebody else. Calls block; not on an event thread.
class ObjectConverter {
 public:
  virtual ~ObjectConverter() = default;
  /// The same objects, in the same order, in `api_version`; metadata but labels and annotations unchanged.
  virtual Result<std::vector<json::value>> convert(std::vector<json::value> objects,
                                                   const std::string& api_version) const = 0;
};

struct TypeRecord;

/// What a table cannot say. Each may be null.
struct TypeHooks {
  /// Before defaults on create: resets what a client may not set (status is cleared by the server).
  void (*prepare_create)(json::object& object) = nullptr;
  void (*prepare_update)(json::object& object, const json::object& old) = nullptr;
  /// On create and on update; the next ones only there.
  void (*validate)(const json::object& object, FieldErrors& errors) = nullptr;
  void (*validate_create)(const json::object& object, FieldErrors& errors) = nullptr;
  void (*validate_update)(const json::object& object, const json::object& old, FieldErrors& errors) = nullptr;
  void (*validate_status_update)(const json::object& object, const json::object& old,
                                 FieldErrors& errors) = nullptr;
  /// Cells in the order of TypeRecord::columns.
  void (*cells)(const json::object& object, Now now, json::array& cells) = nullptr;
  /// Completed condition of a row ("Succeeded" pods); empty = none. Returns the reason and message.
  std::pair<std::string, std::string> (*row_completed)(const json::object& object) = nullptr;
};

struct TypeRecord {
  std::string group;  ///< "" = core
  std::string kind, list_kind, plural, singular;
  std::vector<TypeVersion> versions;  ///< preferred first
  std::vector<std::string> short_names, categories;
  bool namespaced = true;
  std::vector<std::string>
      verbs;  ///< "create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"
  std::vector<Subresource> subresources;
  std::vector<Column> columns;              ///< Name first, except Event
  std::vector<SelectableField> selectable;  ///< besides metadata.name and metadata.namespace
  NameRule name_rule = NameRule::dns_subdomain;

  bool builtin = true;               ///< protobuf and strategic merge are known (strategic: 415 otherwise)
  bool has_status = false;           ///< a status subresource: spec and status writes ignore each other
  bool has_generation = false;       ///< metadata.generation counts spec changes
  bool graceful = false;             ///< deletion honours gracePeriodSeconds (pods)
  bool returns_deleted = false;      ///< a deletion answers with the object, not with a Status
  bool put_creates = false;          ///< PUT on a missing name creates
  bool unconditional_update = true;  ///< an update without resourceVersion is allowed
  bool virtual_only = false;         ///< reviews: create answers, nothing is stored
  bool computed = false;             ///< served by code (metrics, componentstatuses), never stored
  std::int64_t ttl_seconds = 0;      ///< Events: 3600
  bool defines_types = false;        ///< its objects are definitions of other types
  bool lists_versions = false;       ///< has an object for each served group version
  bool keeps_status = false;         ///< a create may say what was observed (Node)
  bool complete_on_read = false;     ///< custom types with defaults: older objects get them when read
  /// Where and how objects are stored if that is another type's place (events.k8s.io); empty = own.
  std::string storage_group, storage_plural, storage_api_version;
  SchemaRef storage_schema;

  TypeHooks hooks;
  ScalePaths scale;
  /// Custom types whose versions differ by more than what a schema drops; null: only apiVersion differs.
  std::shared_ptr<const ObjectConverter> converter;
  /// Custom types with several versions: the same record with the columns and subresources of each version.
  /// TypeRegistry::find gives these out, so that nobody else has to ask.
  std::map<std::string, std::shared_ptr<const TypeRecord>, std::less<>> by_version;
  std::shared_ptr<const void> owned;  ///< the pools of a custom type

  const TypeVersion* version(std::string_view name) const;
  /// As this version shows itself.
  const TypeRecord& in_version(std::string_view name) const {
    const auto found = by_version.find(name);
    return found == by_version.end() ? *this : *found->second;
  }
  const TypeVersion& storage_version() const;
  /// Schema and apiVersion of what is stored.
  SchemaRef stored_schema() const { return storage_schema ? storage_schema : storage_version().schema; }
  std::string stored_api_version() const;
  GroupVersionKind gvk(std::string_view version) const { return {group, std::string(version), kind}; }
  const Subresource* subresource(std::string_view name) const;
  bool allows(std::string_view verb) const;
  /// "deployments.apps", "pods": how errors name the resource.
  std::string qualified_resource() const { return group.empty() ? plural : plural + "." + group; }
};
using TypePtr = std::shared_ptr<const TypeRecord>;

/// Immutable once shared. Order of iteration = order of discovery (core first, then by group).
class ORC_API TypeRegistry {
 public:
  /// All builtin types at our API level. One instance, made at first use.
  static std::shared_ptr<const TypeRegistry> builtin();

  TypePtr find(std::string_view group, std::string_view version, std::string_view resource) const;
  TypePtr find_kind(std::string_view group, std::string_view version, std::string_view kind) const;
  TypePtr find_kind(const GroupVersionKind& gvk) const { return find_kind(gvk.group, gvk.version, gvk.kind); }
  /// Any served version.
  TypePtr find_any_version(std::string_view group, std::string_view resource) const;
  const std::vector<TypePtr>& records() const { return records_; }
  struct GroupVersion {
    std::string group, version;
    bool preferred = true;
  };
  /// Served group versions in discovery order; the preferred of a group first.
  std::vector<GroupVersion> group_versions() const;
  bool has_group_version(std::string_view group, std::string_view version) const;

  /// A copy with one record added, or replaced where (group, plural) is there already.
  std::shared_ptr<const TypeRegistry> with(TypePtr record) const;
  std::shared_ptr<const TypeRegistry> without(std::string_view group, std::string_view plural) const;

 private:
  std::vector<TypePtr> records_;
};

/// "apps/v1" -> {"apps", "v1"}; "v1" -> {"", "v1"}.
ORC_API std::pair<std::string, std::string> split_api_version(std::string_view api_version);

}  // namespace orchestra::api
