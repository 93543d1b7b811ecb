#pragma once
// ApiServer: a Kubernetes-compatible API over any StateStore, over HTTPS and in process.
//
//   orchestra::ApiServer server(engine, store, {.listen = "127.0.0.1:0"});
//   if (auto started = server.start(); !started) ...
//   server.write_kubeconfig("admin.kubeconfig");
//   orchestra::Client client = server.client();
//
// Unmodified kubectl and client libraries work against address(); client() runs the same pipeline without
// HTTP. Without `listen` no socket is opened. The engine and the store must outlive the server. Since 0.1.
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/client.hpp"
#include "orchestra/encryption.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/metrics_source.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra {

class PodStreams;

/// A user, as the host's own authenticator names him.
struct AuthenticatedUser {
  std::string name, uid;
  std::vector<std::string> groups;
  std::map<std::string, std::vector<std::string>> extra;
};

struct ApiServerOptions {
  std::string listen = {};          ///< "127.0.0.1:6443", port 0 = any free one; empty: no HTTPS
  std::string insecure_http = {};   ///< loopback only: everybody who connects is an administrator
  std::string data_directory = {};  ///< certificates live in DIR/pki; empty: only in memory
  /// Of Service addresses: of IPv4, of IPv6 (/108 to /126), or one of each with a comma between them.
  /// Services that do not say have the first's family: "10.96.0.0/16,fd00:10:96::/112".
  std::string service_cidr = "10.96.0.0/16";
  int node_port_min = 30000, node_port_max = 32767;
  /// Further DNS names and addresses of the serving certificate.
  std::vector<std::string> certificate_names = {};
  std::size_t reads_in_flight_max = 400;  ///< more answer 429; watches and streams do not count
  std::size_t writes_in_flight_max = 200;
  std::size_t watchers_max = 10'000;
  std::size_t connections_max = 10'000;
  Duration bookmark_interval = std::chrono::seconds(60);
  /// What is not answered by then is answered with 504; watches, logs and streams go on. A client may ask for
  /// less (`?timeout=10s`). Since 0.2.
  Duration request_deadline = std::chrono::seconds(60);
  /// Of serving and client certificates; the serving one is renewed at two thirds of it.
  Duration certificate_life = std::chrono::hours(24 * 365);
  /// `iss` and the default audience of service account tokens.
  std::string service_account_issuer = "https://kubernetes.default.svc.cluster.local";
  /// Further keys (PEM, private or public) whose tokens are believed: those of before a rotation.
  std::vector<std::string> service_account_keys = {};
  /// EncryptionConfiguration; default: DIR/pki/encryption.yaml, made with one key for Secrets at the first
  /// start (0600). Without data_directory and without this nothing is sealed.
  std::string encryption_config = {};
  KmsPlugins kms = {};  ///< by the name that the configuration uses
  /// Hears of requests, over HTTP and of client(), as audit.k8s.io/v1 events (JSON), one at a time, on a
  /// worker thread; may block, but not ask this server, which would be told again. Bodies of Secrets and
  /// tokens are never told. Since 0.2.
  std::function<void(const std::string& event)> audit_sink = {};
  /// An audit.k8s.io/v1 Policy (YAML): the first rule that matches a request decides how much is told. Empty:
  /// everything at level Metadata.
  std::string audit_policy = {};
  /// Events that wait for the sink (besides: 64 MiB of them); more are dropped and counted.
  std::size_t audit_queue_max = 10'000;
  /// Asked about bearer tokens that this server did not issue. Any thread; must not block.
  std::function<std::optional<AuthenticatedUser>(const std::string& token)> authenticate_token = {};
  /// What /metrics shows, where the server counts its requests; null: a registry of its own. Since 0.2.
  std::shared_ptr<class Metrics> registry = nullptr;
};

class ORC_API ApiServer {
 public:
  ApiServer(Engine& engine, std::shared_ptr<StateStore> store, ApiServerOptions options = {});
  /// stop()
  ~ApiServer();
  ApiServer(const ApiServer&) = delete;
  ApiServer& operator=(const ApiServer&) = delete;

  /// Makes or reads the certificates, writes the objects every cluster has, then listens. `busy` names an
  /// address that is taken; `invalid` an option that cannot be. Blocks; not on an event thread.
  Result<void> start();
  /// Stops listening, ends watches and streams. Idempotent; clients of client() work as long as the store.
  void stop();

  /// Listens at one more address, with a certificate for it, and lets the Service `kubernetes` point there:
  /// an address of this machine that pods can reach. Blocks. Since 0.2.
  Result<void> serve_pods(const std::string& address);

  /// Audit events that did not fit into the queue. Any thread. Since 0.2.
  std::uint64_t audit_dropped() const;

  /// Rewrites what is stored as the encryption configuration would write it now; answers how many values.
  /// Blocks. Since 0.2.
  Result<std::size_t> reencrypt();

  /// Acts as system:masters. Works from start() on, any thread.
  Client client() const;
  /// Acts as this user, with what authorization allows it.
  Client client_as(const std::string& user, const std::vector<std::string>& groups = {}) const;

  /// A kubeconfig with the administrator's client certificate, mode 0600.
  Result<void> write_kubeconfig(const std::string& path) const;
  Result<std::string> kubeconfig() const;
  /// host:port of HTTPS with the real port; empty if there is none.
  std::string address() const;
  std::string insecure_address() const;
  /// PEM of the authority that signed the serving certificate.
  std::string ca_pem() const;

  /// A certificate (PEM) of the server's own authority for the names and the key of a PKCS#10 request, never
  /// one of an authority. Judges nothing but the request's own signature: who may have what is for the
  /// caller, as for the signing controller. `usages` in Kubernetes' words ("client auth"). Any thread. Since
  /// 0.2.
  Result<std::string> sign_certificate(const std::string& request_pem, const std::vector<std::string>& usages,
                                       Duration life) const;

  /// How pods of a node in this process are reached for logs, exec, attach and port-forward. Empty `node`:
  /// all pods. Pods of nodes whose agent keeps a tunnel to this server are reached there; others answer 503.
  void set_pod_streams(std::shared_ptr<PodStreams> streams, const std::string& node = {});
  /// What nodes with a tunnel to this server use, as they sent it last (each 10 s). Since 0.2.
  std::shared_ptr<MetricsSource> node_metrics() const;
  /// Who knows the objects of a computed kind ("metrics.k8s.io", "pods"): called for each get and list with
  /// the namespace (empty: all) and the name (empty: a list), on the thread of the request. Until then these
  /// answer 503. More than was asked for does no harm. Since 0.2.
  using ComputedSource =
      std::function<Result<std::vector<Object>>(const std::string& ns, const std::string& name)>;
  void set_computed(const std::string& group, const std::string& resource, ComputedSource source);
  /// The registry behind /metrics: families and collectors of the host show there, too. Since 0.2.
  std::shared_ptr<Metrics> metrics() const;
  /// GET `path` answers `text()`; administrators only.
  void add_endpoint(const std::string& path, const std::string& content_type,
                    std::function<std::string()> text);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace orchestra
