#pragma once
// The resolv.conf of a pod. Pure: policy, cluster settings and the host's file in, text out.
//
// Follows the Kubernetes pod specification (dnsPolicy, dnsConfig). glibc reads at most 3 name servers;
// Kubernetes allows 32 search domains and 2,048 characters of them: what is above is dropped and named, so
// that the caller can say it in an event.
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "orchestra/error.hpp"

namespace orchestra {

struct ResolvConfInput {
  std::string policy = "ClusterFirst";  ///< ClusterFirst ClusterFirstWithHostNet Default None
  bool host_network = false;            ///< turns ClusterFirst into Default
  std::string ns;                       ///< of the pod
  std::string zone = "cluster.local";
  std::vector<std::string> cluster_servers;  ///< addresses of the cluster's DNS server; none: as Default
  std::string host_file;                     ///< text of the host's resolv.conf (host_resolv_conf_path)
  // spec.dnsConfig
  std::vector<std::string> servers, searches;
  std::vector<std::pair<std::string, std::optional<std::string>>> options;
};
struct ResolvConf {
  std::string text;
  std::vector<std::string> dropped;  ///< "name server 10.0.0.4: more than 3", ...
};
ORC_API ResolvConf resolv_conf(const ResolvConfInput& input);

/// Which file of the host to read: systemd-resolved's own list when /etc/resolv.conf (its text given here)
/// only names the stub 127.0.0.53, which no pod could reach.
ORC_API std::string host_resolv_conf_path(std::string_view etc_resolv_conf);

}  // namespace orchestra
