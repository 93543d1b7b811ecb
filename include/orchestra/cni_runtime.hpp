#pragma once
// CniRuntime: pods get their network from CNI plugins (Container Network Interface, SPEC.md up to 1.1).
//
// A configuration (a list of plugins, or one) is read from a folder or given as text; its plugins are
// programs that are run one after the other, with the configuration on their stdin and a result or an error
// on their stdout. The version spoken is the highest that the configuration names and every plugin of it
// supports. What ADD answered is kept on disk, so that CHECK and DEL get it, also from another process.
// Thread safe; operations on one runtime are done in order. Since 0.2.
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "orchestra/engine.hpp"
#include "orchestra/pending.hpp"
#include "orchestra/pod_network.hpp"

namespace orchestra {

struct CniOptions {
  std::string data_dir;  ///< results, one file per container
  /// The lexicographically first of *.conflist, *.conf and *.json here is used; read anew for each ADD.
  /// Empty, and no text either: nothing is added (`unavailable`), what was added before is checked and
  /// removed.
  std::string configuration_dir = "/etc/cni/net.d";
  std::string configuration;  ///< the text of a configuration, in place of a folder
  std::vector<std::string> plugin_dirs{"/opt/cni/bin", "/usr/lib/cni"};
  std::string interface_name = "eth0";
  Duration plugin_deadline = std::chrono::seconds(30);  ///< then the plugin is killed
  NetworkNamespace name_space;                          ///< the node's side: where plugins run
};

struct CniAttachRequest {
  std::string container_id;     ///< letters, digits, '_', '.', '-'; the pod's uid
  NetworkNamespace name_space;  ///< of the pod
  std::string pod_ns, pod_name;
  /// JSON object by capability ({"portMappings": [...]}); each plugin gets those that it declares.
  std::string capabilities = "{}";
};

/// What the last plugin of the list answered.
struct CniResult {
  std::vector<std::string> addresses;  ///< with prefix, "10.22.0.5/16"; those of the pod's interface first
  std::string host_link;               ///< the first interface on the node's side; may be empty
  std::string json;
};

class ORC_API CniRuntime {
 public:
  static Result<std::shared_ptr<CniRuntime>> open(Engine& engine, CniOptions options);
  virtual ~CniRuntime() = default;

  /// ADD through the list. At the first plugin that fails, DEL through the whole list. A container that is
  /// attached already is answered from what is kept, if its namespace still has the interface; else it gets
  /// DEL, and ADD anew. Errors name the plugin, its words and what it wrote to stderr; `unavailable`: it
  /// asked to try again later (code 11), or the node is not ready (50, 51).
  virtual Pending<CniResult> add(CniAttachRequest request) = 0;
  /// CHECK; fine where the version has none or the configuration forbids it. `not_found`: never added.
  virtual Pending<void> check(std::string container_id) = 0;
  /// DEL in reverse order, as far as it goes. One that is not known is fine. What is kept stays when a plugin
  /// fails, so that it can be done again.
  virtual Pending<void> remove(std::string container_id) = 0;
  /// Removes every container that is not in `live`, then tells the plugins who is valid (GC, from 1.1 on).
  virtual Pending<void> collect(std::set<std::string> live) = 0;
  /// STATUS (from 1.1 on) of the configuration's plugins, and that there is one whose plugins are all there.
  virtual Pending<void> status() = 0;
  virtual std::set<std::string> known() const = 0;
};

/// Pods attached by `runtime` or by `node`, decided for each pod: who attached it before is asked again, also
/// to detach it, whatever is configured now. A pod that nobody knows is attached by `runtime` if
/// `fresh_by_runtime`, else by `node`. Addresses of the node and of its DNS are those of `node`.
ORC_API std::shared_ptr<PodAttacher> make_cni_attacher(std::shared_ptr<CniRuntime> runtime,
                                                       std::shared_ptr<PodAttacher> node,
                                                       bool fresh_by_runtime);

}  // namespace orchestra
