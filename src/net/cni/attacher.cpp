// PodAttacher by CNI plugins: what a pod asks for as capabilities (CONVENTIONS.md), what the plugins answered
// as addresses. Beside it the node's own network, for pods that were attached by that one before.
#include <algorithm>

#include "api/pod_attacher.hpp"
#include "base/json.hpp"
#include "orchestra/cni_runtime.hpp"

namespace orchestra {
namespace net {
namespace {

constexpr std::int64_t kBurstBits = 64 * 1024 * 8;  // as our own limits: one segment of the largest size

std::string capabilities_of(const AttachRequest& request) {
  json::object out;
  json::array ports;
  for (const HostPort& port : request.host_ports) {
    std::string protocol = to_string(port.protocol);
    std::transform(protocol.begin(), protocol.end(), protocol.begin(), [](char c) { return c | 0x20; });
    ports.push_back(json::object{{"hostPort", port.host_port},
                                 {"containerPort", port.pod_port},
                                 {"protocol", protocol},
                                 {"hostIP", port.host_address}});
  }
  if (!ports.empty()) out["portMappings"] = std::move(ports);
  json::object bandwidth;
  if (request.ingress_bits != 0) {
    bandwidth["ingressRate"] = request.ingress_bits;
    bandwidth["ingressBurst"] = kBurstBits;
  }
  if (request.egress_bits != 0) {
    bandwidth["egressRate"] = request.egress_bits;
    bandwidth["egressBurst"] = kBurstBits;
  }
  if (!bandwidth.empty()) out["bandwidth"] = std::move(bandwidth);
  return to_json(json::value(std::move(out)));
}

class CniAttacher final : public PodAttacher {
 public:
  CniAttacher(std::shared_ptr<CniRuntime> runtime, std::shared_ptr<PodAttacher> node, bool fresh_by_runtime)
      : runtime_(std::move(runtime)), node_(std::move(node)), fresh_by_runtime_(fresh_by_runtime) {}

  Pending<Attachment> attach(AttachRequest request) override {
    ORC_ASSIGN(const bool by_runtime, is_by_runtime(request.pod_uid));
    if (!by_runtime) return node_->attach(std::move(request));
    CniAttachRequest wish{request.pod_uid, NetworkNamespace(request.network_namespace), request.ns,
                          request.name, capabilities_of(request)};
    return runtime_->add(std::move(wish))
        .then([uid = request.pod_uid](const Result<CniResult>& result) -> Result<Attachment> {
          if (!result) return result.error();
          Attachment out{uid, {}, result->host_link, 0, {}};
          for (const std::string& address : result->addresses)
            out.addresses.push_back(address.substr(0, address.find('/')));
          if (out.addresses.empty())
            return Error(Error::corrupt, "cni", "the CNI plugins gave pod " + uid + " no address");
          return out;
        });
  }
  Pending<void> detach(std::string pod_uid) override {
    if (runtime_->known().contains(pod_uid)) return runtime_->remove(std::move(pod_uid));
    return node_->detach(std::move(pod_uid));
  }
  Result<std::vector<Attachment>> list() override {
    ORC_ASSIGN(std::vector<Attachment> out, node_->list());
    for (const std::string& uid : runtime_->known()) out.push_back({uid, {}, "", 0, {}});
    return out;
  }
  std::string dns_address() const override { return node_->dns_address(); }
  std::string node_address() const override { return node_->node_address(); }
  std::string trouble() const override { return node_->trouble(); }

 private:
  Result<bool> is_by_runtime(const std::string& pod_uid) const {
    if (runtime_->known().contains(pod_uid)) return true;
    ORC_ASSIGN(const std::vector<Attachment> others, node_->list());
    const bool by_node = std::any_of(others.begin(), others.end(),
                                     [&](const Attachment& one) { return one.pod_uid == pod_uid; });
    return !by_node && fresh_by_runtime_;
  }

  const std::shared_ptr<CniRuntime> runtime_;
  const std::shared_ptr<PodAttacher> node_;
  const bool fresh_by_runtime_;
};

}  // namespace
}  // namespace net

std::shared_ptr<PodAttacher> make_cni_attacher(std::shared_ptr<CniRuntime> runtime,
                                               std::shared_ptr<PodAttacher> node, bool fresh_by_runtime) {
  return std::make_shared<net::CniAttacher>(std::move(runtime), std::move(node), fresh_by_runtime);
}

}  // namespace orchestra
