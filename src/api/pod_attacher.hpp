#pragma once
// PodAttacher: what the node agent needs of a pod network. Implemented by src/net/podnet (routed veth
// pairs) and, at level process, by an allocator of 127.x.y.z addresses.
#include <memory>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "orchestra/pending.hpp"

namespace orchestra {

struct AttachRequest {
  std::string pod_uid, ns, name;
  std::shared_ptr<Fd> network_namespace;  ///< null at level process
};
struct Attachment {
  std::string pod_uid;
  std::vector<std::string> addresses;  ///< primary first
  std::string link;                    ///< name of the host side
  int mtu = 0;
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
};

}  // namespace orchestra
