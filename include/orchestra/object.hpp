#pragma once
// Object: any API object as immutable canonical JSON bytes with a small header. Since 0.1.
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/result.hpp"

namespace orchestra {

/// Group, version and kind of an object; the core group is "".
struct GroupVersionKind {
  std::string group, version, kind;
  /// "apps/v1", "v1"
  std::string api_version() const { return group.empty() ? version : group + "/" + version; }
  friend bool operator==(const GroupVersionKind&, const GroupVersionKind&) = default;
};

struct OwnerReference {
  std::string api_version, kind, name, uid;
  bool controller = false;
  bool block_owner_deletion = false;
};

/// Cheap to copy; immutable; any thread. The header is read once at construction.
class ORC_API Object {
 public:
  Object() = default;  ///< empty; bool(object) is false
  static Result<Object> from_json(std::string_view json);
  /// One YAML document; several are an error (use many_from_yaml).
  static Result<Object> from_yaml(std::string_view yaml);
  static Result<std::vector<Object>> many_from_yaml(std::string_view yaml);

  explicit operator bool() const { return data_ != nullptr; }
  std::string_view json() const;  ///< canonical: keys in insertion order, no white space
  std::string yaml() const;

  const std::string& api_version() const;
  const std::string& kind() const;
  const std::string& name() const;
  const std::string& ns() const;
  const std::string& uid() const;
  const std::string& resource_version() const;
  std::int64_t generation() const;
  const std::map<std::string, std::string>& labels() const;
  const std::map<std::string, std::string>& annotations() const;
  const std::vector<OwnerReference>& owners() const;
  const std::vector<std::string>& finalizers() const;
  bool deleting() const;  ///< metadata.deletionTimestamp is set
  /// The owner with controller: true, if any.
  const OwnerReference* controller() const;

  /// JSON text of the value at a JSON pointer ("/spec/replicas"), strings unquoted; nullopt if absent.
  std::optional<std::string> get(std::string_view pointer) const;
  std::optional<std::int64_t> get_int(std::string_view pointer) const;
  std::optional<bool> get_bool(std::string_view pointer) const;
  /// A copy with the value at `pointer` replaced by `json` text (parents are made).
  Result<Object> with(std::string_view pointer, std::string_view json) const;

  struct Data;  ///< internal: bytes, header and the decoded tree (src/api/object_tree.hpp)
  explicit Object(std::shared_ptr<const Data> data) : data_(std::move(data)) {}
  const Data* data() const { return data_.get(); }
  friend bool operator==(const Object& a, const Object& b) { return a.json() == b.json(); }

 protected:
  std::shared_ptr<const Data> data_;
};

/// Typed views of kinds: an Object whose kind is known. `Informer<k8s::Pod>` names its resource by it.
namespace k8s {
template <const char* ApiVersion, const char* Resource>
struct View : Object {
  View() = default;
  View(Object object) : Object(std::move(object)) {}
  static constexpr const char* api_version_name = ApiVersion;
  static constexpr const char* resource_name = Resource;
};
#define ORC_K8S_VIEW(Name, version, resource)              \
  inline constexpr char k##Name##Version[] = version;      \
  inline constexpr char k##Name##Resource[] = resource;    \
  using Name = View<k##Name##Version, k##Name##Resource>
ORC_K8S_VIEW(Pod, "v1", "pods");
ORC_K8S_VIEW(Node, "v1", "nodes");
ORC_K8S_VIEW(Namespace, "v1", "namespaces");
ORC_K8S_VIEW(Service, "v1", "services");
ORC_K8S_VIEW(Endpoints, "v1", "endpoints");
ORC_K8S_VIEW(ConfigMap, "v1", "configmaps");
ORC_K8S_VIEW(Secret, "v1", "secrets");
ORC_K8S_VIEW(ServiceAccount, "v1", "serviceaccounts");
ORC_K8S_VIEW(Event, "v1", "events");
ORC_K8S_VIEW(Deployment, "apps/v1", "deployments");
ORC_K8S_VIEW(ReplicaSet, "apps/v1", "replicasets");
ORC_K8S_VIEW(EndpointSlice, "discovery.k8s.io/v1", "endpointslices");
ORC_K8S_VIEW(Ingress, "networking.k8s.io/v1", "ingresses");
ORC_K8S_VIEW(IngressClass, "networking.k8s.io/v1", "ingressclasses");
ORC_K8S_VIEW(Lease, "coordination.k8s.io/v1", "leases");
#undef ORC_K8S_VIEW
}  // namespace k8s

/// The Status object of a failed request: the typed extra of every API error.
struct Status {
  int code = 500;         ///< HTTP status
  std::string reason;     ///< "NotFound", "Conflict", ...
  std::string message;
  std::string json;       ///< the whole Status object
};

}  // namespace orchestra
