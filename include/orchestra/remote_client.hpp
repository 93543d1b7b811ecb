#pragma once
// RemoteClient: the Client of any Kubernetes-compatible API server over HTTPS. Always verifies TLS.
//
//   auto client = orchestra::RemoteClient::from_kubeconfig(engine, "admin.kubeconfig");
//   if (!client) ...
//   auto pods = client->list("v1", "pods", {.ns = "default"}).wait(5s);
//
// Since 0.1.
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "orchestra/client.hpp"
#include "orchestra/engine.hpp"

namespace orchestra {

struct RemoteClientOptions {
  std::string server;  ///< https://host:port
  /// Other API servers of the same control plane, as `server`. One is used until it cannot be reached or does
  /// not answer in time; then the next. A read that failed so is asked of the others; a write is not, for
  /// nobody knows what came of it. Since 0.2.
  std::vector<std::string> more_servers = {};
  std::string ca_pem;  ///< empty: the system's bundle
  std::string certificate_pem, key_pem;
  std::string token;
  /// Where the token comes from: read again each minute and after an answer 401, for tokens of pods end
  /// within an hour. While it cannot be read the one of before is used, at the beginning `token`. Since 0.2.
  std::string token_file = {};
  std::string server_name;  ///< for verification; empty: the host of `server`
  std::string user_agent = "orchestra";
  /// Certificate and key (PEM) for each new request, instead of the two above: certificates that are renewed
  /// while the client lives. Any thread; must not block. Since 0.2.
  std::function<std::pair<std::string, std::string>()> renewed = {};
};

class ORC_API RemoteClient {
 public:
  /// `path` empty: $KUBECONFIG is not looked at; pass what you mean. `context` empty: the current one.
  static Result<Client> from_kubeconfig(Engine& engine, const std::string& path,
                                        const std::string& context = {});
  static Result<Client> from_kubeconfig_text(Engine& engine, const std::string& text,
                                             const std::string& context = {}, const std::string& folder = {});
  /// From the files that a pod's service account has (ca.crt and token in `folder`), and the environment
  /// variables KUBERNETES_SERVICE_HOST and _PORT.
  static Result<Client> in_cluster(
      Engine& engine, const std::string& folder = "/var/run/secrets/kubernetes.io/serviceaccount");
  static Client connect(Engine& engine, RemoteClientOptions options);
};

/// What a kubeconfig says about a context. `folder`: where relative file names begin.
ORC_API Result<RemoteClientOptions> read_kubeconfig(const std::string& text, const std::string& context = {},
                                                    const std::string& folder = {});

}  // namespace orchestra
