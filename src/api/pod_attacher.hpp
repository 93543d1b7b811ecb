#pragma once
// PodAttacher: what the node agent needs of a pod network. Implemented by src/net/podnet (routed veth
// pairs) and, at level process, by an allocator of 127.x.y.z addresses.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "orchestra/network_snapshot.hpp"
#include "orchestra/pending.hpp"

namespace orchestra {

/// A port of the machine that leads to a port of one pod (hostPort).
struct HostPort {
  IpProtocol protocol = IpProtocol::tcp;
  std::string host_address;  ///< of the machine; empty: each one, 127.0.0.1 included
  std::uint16_t host_port = 0, pod_port = 0;
  friend bool operator==(const HostPort&, const HostPort&) = default;
};
/// "8080/TCP", "192.0.2.1:8080/TCP"
inline std::string to_string(const HostPort& port) {
  return (port.host_address.empty() ? "" : port.host_address + ":") + std::to_string(port.host_port) + "/" +
         to_string(port.protocol);
}

struct AttachRequest {
  std::string pod_uid, ns, name;
  std::shared_ptr<Fd> network_namespace;  ///< null at level process
  std::vector<HostPort> host_ports = {};
  std::uint64_t ingress_bits = 0, egress_bits = 0;  ///< bits per second to and from the pod; 0: no limit
  /// Level process: the programs listen on the pod's own address only.
  bool binds_pod_address = false;
};
struct Attachment {
  std::string pod_uid;
  std::vector<std::string> addresses;  ///< primary first
  std::string link;                    ///< name of the host side
  int mtu = 0;
  /// What was asked for and is not there, a sentence each; of attach() only.
  std::vector<std::string> warnings = {};
};
class ORC_API PodAttacher {
 public:
  virtual ~PodAttacher() = default;
  /// Idempotent by pod uid: repeating after a crash converges to the same address.
  virtual Pending<Attachment> attach(AttachRequest request) = 0;
  virtual Pending<void> detach(std::string pod_uid) = 0;
  virtual Result<std::vector<Attachment>> list() = 0;
  /// Address of the node's own DNS server, for resolv.conf; empty if names do not work here.
  virtual std::string dns_address() const = 0;
  /// Source address of probes; the node's address as pods see it.
  virtual std::string node_address() const = 0;
  /// What keeps the network from working now, with the remedy, for the Node's condition; empty: it works.
  virtual std::string trouble() const { return {}; }
};

}  // namespace orchestra
