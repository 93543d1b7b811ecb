#pragma once
// NetworkSnapshot: everything the network needs to know about the cluster, as one immutable value.
//
// Services with their merged endpoints, pods, nodes, namespaces and ingresses become typed records once;
// DNS, the L4 and L7 proxies and policy all read the same snapshot and diff against what they applied, so
// none of them watches the API and none sees a mixture of two states. Publish it through an atomic shared
// pointer. Snapshots of one NetworkModel share every record, and every part of a table, that did not change:
// making one costs what changed, and so does comparing two (SharedMap::compare).
// Bad input is refused per object (see `rejected`), everything else keeps working. A consumer must look at
// `synced`: before the first complete list of an input, absence means nothing. Since 0.1.
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "orchestra/object.hpp"
#include "orchestra/shared_map.hpp"

namespace orchestra {

enum class IpProtocol : std::uint8_t { tcp, udp, sctp };
/// "TCP", "UDP", "SCTP"
ORC_API const char* to_string(IpProtocol protocol);

/// Namespace and name of an object; ordered by namespace first.
struct NamespacedName {
  std::string ns, name;
  friend auto operator<=>(const NamespacedName&, const NamespacedName&) = default;
  std::string to_string() const { return ns + "/" + name; }
};

/// One address behind a Service, merged over all its EndpointSlices.
struct NetworkEndpoint {
  std::string address;     ///< canonical text, IPv4 or IPv6
  std::uint16_t port = 0;  ///< 0 in NetworkService::endpoints
  bool ready = true;
  bool serving = true;
  bool terminating = false;
  std::string node, zone, hostname;
  std::string pod_ns, pod_name, pod_uid;  ///< targetRef, when it is a Pod
  /// hints: whose clients should use it; none: everybody's. Since 0.2.
  std::vector<std::string> for_nodes, for_zones;
  friend bool operator==(const NetworkEndpoint&, const NetworkEndpoint&) = default;
};

struct NetworkServicePort {
  std::string name;
  IpProtocol protocol = IpProtocol::tcp;
  std::uint16_t port = 0;
  std::string target_name;          ///< targetPort given by name
  std::uint16_t target_number = 0;  ///< targetPort given by number (or equal to port)
  std::uint16_t node_port = 0;
  std::string app_protocol;
  std::vector<NetworkEndpoint> endpoints;  ///< of the slices' port with this name and protocol; by address
  friend bool operator==(const NetworkServicePort&, const NetworkServicePort&) = default;
};

struct NetworkService {
  std::string ns, name, uid, resource_version;
  std::string type = "ClusterIP";  ///< ClusterIP NodePort LoadBalancer ExternalName
  std::vector<std::string> cluster_ips;
  std::vector<std::string> external_ips, load_balancer_ips;
  /// loadBalancerSourceRanges: who may use load_balancer_ips, as written; empty: everybody.
  std::vector<std::string> source_ranges;
  bool headless = false;
  std::string external_name;
  bool publish_not_ready = false;
  bool foreign_proxy = false;  ///< labelled service.kubernetes.io/service-proxy-name: L4 leaves it alone
  bool affinity_client_ip = false;
  int affinity_seconds = 10800;
  bool internal_local = false;  ///< internalTrafficPolicy: Local
  bool external_local = false;  ///< externalTrafficPolicy: Local
  /// healthCheckNodePort of a load balancer's Service with that policy, else 0. Since 0.2.
  std::uint16_t health_check_port = 0;
  std::map<std::string, std::string> labels, annotations;
  std::vector<NetworkServicePort> ports;
  /// Every distinct address of the slices, without a port; for names of headless Services.
  std::vector<NetworkEndpoint> endpoints;
  const NetworkServicePort* find_port(std::string_view port_name) const;
  const NetworkServicePort* find_port(std::uint16_t number) const;
  friend bool operator==(const NetworkService&, const NetworkService&) = default;
};

/// A declared port of a container that has a name.
struct NetworkPodPort {
  std::string name;
  IpProtocol protocol = IpProtocol::tcp;
  std::uint16_t port = 0;
};
struct NetworkPod {
  std::string ns, name, uid, resource_version;
  std::vector<std::string> addresses;  ///< primary first; empty until the pod has one
  std::string node, hostname, subdomain;
  bool host_network = false;
  bool finished = false;  ///< Succeeded or Failed: its address may belong to another pod already
  std::map<std::string, std::string> labels;
  std::vector<NetworkPodPort> ports;
};

struct NetworkNode {
  std::string name, uid, resource_version;
  std::vector<std::string> internal_addresses, external_addresses, pod_cidrs;
  std::string zone;
  bool ready = false;
  std::map<std::string, std::string> labels, annotations;
};

struct IngressBackend {
  std::string service;
  std::string port_name;
  std::uint16_t port = 0;  ///< 0: by name
};
enum class IngressPathType : std::uint8_t { exact, prefix, implementation_specific };
struct IngressPath {
  std::string path = "/";
  IngressPathType type = IngressPathType::prefix;
  IngressBackend backend;
};
struct IngressRule {
  std::string host;  ///< lower case; "" is any, "*.x" one label more than x
  std::vector<IngressPath> paths;
};
struct IngressTls {
  std::vector<std::string> hosts;
  std::string secret;  ///< in the ingress' namespace
};
struct NetworkIngress {
  std::string ns, name, uid, resource_version, created;
  std::string class_name;  ///< spec.ingressClassName, else the old annotation, else ""
  std::map<std::string, std::string> labels, annotations;
  std::optional<IngressBackend> default_backend;
  std::vector<IngressRule> rules;
  std::vector<IngressTls> tls;
};
struct NetworkIngressClass {
  std::string name, controller;
  bool is_default = false;
};
/// A kubernetes.io/tls Secret that an ingress names.
struct NetworkTlsSecret {
  std::string ns, name, resource_version;
  std::string certificate_pem, key_pem;
};

/// An object, or a part of one, that the network refuses; worth a Warning event on the object.
struct NetworkRejection {
  std::string kind, ns, name, uid;
  std::string reason;   ///< CamelCase, for the event
  std::string message;  ///< names the value and the remedy
};

/// One kind of input. `synced` means: `objects` is a complete list, not the beginning of one.
struct NetworkInput {
  std::vector<Object> objects;
  bool synced = false;
};
struct NetworkInputs {
  std::int64_t revision = 0;  ///< of the store
  NetworkInput services, endpoint_slices, pods, nodes, namespaces, ingresses, ingress_classes, secrets,
      network_policies;
  /// Ranges of 127/8 that are pods or Services at isolation level process, e.g. "127.128.0.0/12".
  std::vector<std::string> loopback_ranges;
};

class ORC_API NetworkSnapshot {
 public:
  struct Synced {
    bool services = false, endpoint_slices = false, pods = false, nodes = false, namespaces = false,
         ingresses = false, ingress_classes = false, secrets = false, network_policies = false;
  };
  template <class T>
  using Table = SharedMap<NamespacedName, std::shared_ptr<const T>>;  // cluster scope: ns is ""

  std::int64_t revision = 0;
  Synced synced;
  Table<NetworkService> services;
  Table<NetworkPod> pods;
  Table<NetworkNode> nodes;
  SharedMap<std::string, std::map<std::string, std::string>> namespaces;  ///< with their labels
  Table<NetworkIngress> ingresses;
  Table<NetworkIngressClass> ingress_classes;
  Table<NetworkTlsSecret> tls_secrets;
  SharedMap<NamespacedName, Object> network_policies;
  std::vector<NetworkRejection> rejected;

  /// Pure: what a new NetworkModel makes of these objects.
  static std::shared_ptr<const NetworkSnapshot> build(const NetworkInputs& inputs);

  const NetworkService* find_service(std::string_view ns, std::string_view name) const;
  const NetworkPod* find_pod(std::string_view ns, std::string_view name) const;
  const NetworkTlsSecret* find_tls_secret(std::string_view ns, std::string_view name) const;
  /// The unfinished pod, not on the host's network, with this address; nullptr if there is none.
  const NetworkPod* find_pod_by_address(std::string_view address) const;
  const NetworkService* find_service_by_address(std::string_view address) const;
  /// Of the node of this name; "" where it is not known. Since 0.2.
  std::string_view zone_of(std::string_view node) const;
  /// Headless Services that have an endpoint with this address, by name.
  std::vector<const NetworkService*> find_headless_by_address(std::string_view address) const;

 private:
  friend class NetworkModel;
  template <class T>
  using ByAddress = SharedMap<std::pair<std::string, NamespacedName>, std::shared_ptr<const T>>;
  ByAddress<NetworkPod> pods_by_address_;
  ByAddress<NetworkService> services_by_address_, headless_by_address_;
};

enum class NetworkKind : std::uint8_t {
  service,
  endpoint_slice,
  pod,
  node,
  name_space,
  ingress,
  ingress_class,
  secret,
  network_policy
};

/// The objects of a cluster that the network reads, as they are now: told of one change after the other, it
/// hands out snapshots. A change costs what it touches. One thread at a time.
class ORC_API NetworkModel {
 public:
  /// As NetworkInputs::loopback_ranges.
  explicit NetworkModel(const std::vector<std::string>& loopback_ranges = {});
  ~NetworkModel();
  NetworkModel(const NetworkModel&) = delete;
  NetworkModel& operator=(const NetworkModel&) = delete;

  /// A new object, or a new version of one.
  void put(NetworkKind kind, const Object& object);
  /// By namespace and name.
  void remove(NetworkKind kind, const Object& object);
  void set_synced(NetworkKind kind, bool synced);
  /// With everything that was told so far. `revision` is the store's.
  std::shared_ptr<const NetworkSnapshot> snapshot(std::int64_t revision);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace orchestra
