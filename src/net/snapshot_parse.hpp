#pragma once
// From API object trees to the records of the snapshot: one function per kind, no state.
#include <memory>
#include <string>
#include <vector>

#include "net/snapshot.hpp"

namespace orchestra::net {

/// Collects what is refused about one object after another.
class Rejections {
 public:
  explicit Rejections(std::vector<NetworkRejection>& out) : out_(out) {}
  void add(const Object& object, std::string reason, std::string message) {
    out_.push_back(
        {object.kind(), object.ns(), object.name(), object.uid(), std::move(reason), std::move(message)});
  }

 private:
  std::vector<NetworkRejection>& out_;
};

/// Ports and identity; endpoints are merged in afterwards. nullptr: the whole Service is refused.
std::shared_ptr<NetworkService> parse_service(const Object& object, Rejections& rejections);
/// Adds one EndpointSlice's endpoints to its Service. `loopback` ranges are let through.
void merge_slice(NetworkService& service, const Object& slice, const std::vector<IpRange>& loopback,
                 Rejections& rejections);
/// Sorts and merges duplicates: one endpoint per address (and port).
void finish_endpoints(NetworkService& service);

std::shared_ptr<NetworkPod> parse_pod(const Object& object);
std::shared_ptr<NetworkNode> parse_node(const Object& object);
std::shared_ptr<NetworkIngress> parse_ingress(const Object& object, Rejections& rejections);
std::shared_ptr<NetworkIngressClass> parse_ingress_class(const Object& object);
/// nullptr when it is not a usable kubernetes.io/tls Secret.
std::shared_ptr<NetworkTlsSecret> parse_tls_secret(const Object& object, Rejections& rejections);

}  // namespace orchestra::net
