// orc_cluster_*, orc_api_server_* and orc_node_*.
#include <array>
#include <atomic>

#include "bindings/c/handles.hpp"
#include "cluster/node.hpp"
#include "cluster/options.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/cluster.hpp"
#include "orchestra/metrics.hpp"

using namespace orchestra;
using namespace orchestra::c;

struct orc_cluster {
  std::unique_ptr<Cluster> cluster;
};
struct orc_api_server {
  Engine* engine = nullptr;
  std::shared_ptr<StateStore> store;
  ApiServerOptions options;
  std::unique_ptr<ApiServer> server;  ///< from the first start on
  std::atomic<bool> started = false;
};
struct orc_node {
  Engine* engine = nullptr;
  Client client;
  cluster::NodeOptions options;
  std::shared_ptr<void> lock;
  std::unique_ptr<cluster::Node> node;
};

namespace {
/// A plug-in of C, which writes into room of ours.
class KmsOfC final : public KmsPlugin {
 public:
  KmsOfC(std::string name, const orc_kms_plugin& plugin) : name_(std::move(name)), plugin_(plugin) {}

  Result<Wrapped> encrypt(std::string_view plaintext) override {
    std::array<char, kKeyBytesMax> wrapped{};
    std::array<char, 257> key_id{};
    std::array<char, 256> why{};
    std::size_t size = wrapped.size();
    const orc_code code = plugin_.encrypt(plugin_.context, plaintext.data(), plaintext.size(), wrapped.data(),
                                          &size, key_id.data(), why.data());
    ORC_TRY(check("encrypt", code, size, why));
    key_id.back() = '\0';
    return Wrapped{std::string(wrapped.data(), size), key_id.data()};
  }
  Result<std::string> decrypt(const Wrapped& wrapped) override {
    std::array<char, kKeyBytesMax> plain{};
    std::array<char, 256> why{};
    std::size_t size = plain.size();
    const orc_code code =
        plugin_.decrypt(plugin_.context, wrapped.ciphertext.data(), wrapped.ciphertext.size(),
                        wrapped.key_id.c_str(), plain.data(), &size, why.data());
    ORC_TRY(check("decrypt", code, size, why));
    return std::string(plain.data(), size);
  }

 private:
  static constexpr std::size_t kKeyBytesMax = 1024;
  Result<void> check(const char* what, orc_code code, std::size_t size, std::array<char, 256>& why) const {
    why.back() = '\0';
    const std::string where = "KMS plug-in " + name_ + ": " + what;
    if (code != ORC_OK)
      return Error(static_cast<Error::Code>(code), "c",
                   where + ": " + (why[0] != '\0' ? why.data() : "no reason given"));
    if (size > kKeyBytesMax)
      return Error(Error::too_large, "c",
                   where + " says it wrote " + std::to_string(size) + " bytes into room for 1024");
    return {};
  }
  const std::string name_;
  const orc_kms_plugin plugin_;
};

std::string metrics_page(const Metrics& metrics, const char* accept) {
  return metrics.text(metrics_format(accept == nullptr ? "" : accept));
}
}  // namespace

orc_code orc_cluster_new(orc_engine* engine, const char* options_json, orc_cluster** out, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (engine == nullptr || out == nullptr) return bad("engine and out must be given", error);
    auto parsed = parse_options(
        options_json, {.texts = {"data_dir", "listen", "insecure_http", "dns", "ingress", "ingress_tls",
                                 "node_name", "isolation", "pod_cidr", "service_cidr", "pod_network"},
                       .flags = {"node", "memory_store", "serve_http"},
                       .lists = {"preload", "dns_forward"}});
    if (!parsed) return fail(parsed.error(), error);
    ClusterOptions options;
    options.data_dir = string_at(*parsed, "/data_dir");
    options.listen = string_at(*parsed, "/listen");
    options.insecure_http = string_at(*parsed, "/insecure_http");
    options.dns = string_at(*parsed, "/dns");
    options.ingress = string_at(*parsed, "/ingress");
    options.ingress_tls = string_at(*parsed, "/ingress_tls");
    options.node_name = string_at(*parsed, "/node_name");
    options.node = bool_at(*parsed, "/node", true);
    options.isolation = string_at(*parsed, "/isolation", "best");
    options.pod_cidr = string_at(*parsed, "/pod_cidr");
    options.service_cidr = string_at(*parsed, "/service_cidr");
    options.pod_network = string_at(*parsed, "/pod_network");
    options.preload = strings_at(*parsed, "/preload");
    options.dns_forward = strings_at(*parsed, "/dns_forward");
    options.memory_store = bool_at(*parsed, "/memory_store");
    options.serve_http = bool_at(*parsed, "/serve_http", true);
    *out = new orc_cluster{std::make_unique<Cluster>(*engine->engine, options)};
    return ORC_OK;
  });
}
orc_code orc_cluster_start(orc_cluster* cluster, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (cluster == nullptr) return bad("cluster must be given", error);
    auto started = cluster->cluster->start();
    return started ? ORC_OK : fail(started.error(), error);
  });
}
void orc_cluster_stop(orc_cluster* cluster) {
  if (cluster != nullptr) cluster->cluster->stop();
}
orc_code orc_cluster_down(orc_cluster* cluster, int64_t timeout_ms, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (cluster == nullptr) return bad("cluster must be given", error);
    auto ended = cluster->cluster->down(milliseconds(timeout_ms));
    return ended ? ORC_OK : fail(ended.error(), error);
  });
}
orc_code orc_cluster_info(orc_cluster* cluster, orc_bytes* out, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (cluster == nullptr || out == nullptr) return bad("cluster and out must be given", error);
    const ClusterInfo info = cluster->cluster->info();
    json::array degraded;
    for (const std::string& line : info.degraded) degraded.push_back(json::string(line));
    give(out, to_json(json::object{{"data_dir", info.data_dir},
                                   {"instance", info.instance},
                                   {"api_address", info.api_address},
                                   {"insecure_address", info.insecure_address},
                                   {"ingress_address", info.ingress_address},
                                   {"dns_address", info.dns_address},
                                   {"node_name", info.node_name},
                                   {"isolation", info.isolation},
                                   {"service_proxy", info.service_proxy},
                                   {"pod_cidr", info.pod_cidr},
                                   {"service_cidr", info.service_cidr},
                                   {"kubeconfig", info.kubeconfig},
                                   {"ready_ms", info.ready_ms},
                                   {"degraded", std::move(degraded)}}));
    return ORC_OK;
  });
}
orc_code orc_cluster_metrics(orc_cluster* cluster, const char* accept, orc_bytes* out, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (cluster == nullptr || out == nullptr) return bad("cluster and out must be given", error);
    give(out, metrics_page(*cluster->cluster->metric_registry(), accept));
    return ORC_OK;
  });
}
orc_code orc_cluster_client(orc_cluster* cluster, orc_client** out, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (cluster == nullptr || out == nullptr) return bad("cluster and out must be given", error);
    Client client = cluster->cluster->client();
    if (!client) return bad("the cluster is not started", error);
    *out = new orc_client{std::move(client)};
    return ORC_OK;
  });
}
void orc_cluster_free(orc_cluster* cluster) { delete cluster; }

orc_code orc_api_server_new(orc_engine* engine, orc_store* store, const char* options_json,
                            orc_api_server** out, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (engine == nullptr || store == nullptr || out == nullptr)
      return bad("engine, store and out must be given", error);
    auto parsed = parse_options(options_json, {.texts = {"listen", "insecure_http", "data_directory",
                                                         "service_cidr", "encryption_config"}});
    if (!parsed) return fail(parsed.error(), error);
    auto made = std::make_unique<orc_api_server>();
    ApiServerOptions& options = made->options;
    options.listen = string_at(*parsed, "/listen");
    options.insecure_http = string_at(*parsed, "/insecure_http");
    options.encryption_config = string_at(*parsed, "/encryption_config");
    options.data_directory = string_at(*parsed, "/data_directory");
    options.service_cidr = string_at(*parsed, "/service_cidr", options.service_cidr);
    made->engine = engine->engine.get();
    made->store = store->store;
    *out = made.release();
    return ORC_OK;
  });
}
orc_code orc_api_server_start(orc_api_server* server, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (server == nullptr) return bad("server must be given", error);
    if (!server->server)
      server->server = std::make_unique<ApiServer>(*server->engine, server->store, server->options);
    auto started = server->server->start();
    if (!started) return fail(started.error(), error);
    server->started = true;
    return ORC_OK;
  });
}
orc_code orc_api_server_add_kms(orc_api_server* server, const char* name, const orc_kms_plugin* plugin,
                                orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (server == nullptr || name == nullptr || plugin == nullptr || plugin->size != sizeof(orc_kms_plugin) ||
        plugin->encrypt == nullptr || plugin->decrypt == nullptr)
      return bad("server, name and plugin (with its size and both functions) must be given", error);
    if (server->server) return bad("plug-ins are added before the server starts", error);
    if (!server->options.kms.emplace(name, std::make_shared<KmsOfC>(name, *plugin)).second)
      return fail(Error(Error::already_exists, "c", std::string("there is a plug-in ") + name + " already"),
                  error);
    return ORC_OK;
  });
}
void orc_api_server_stop(orc_api_server* server) {
  if (server != nullptr && server->server) server->server->stop();
}
orc_code orc_api_server_client(orc_api_server* server, orc_client** out, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (server == nullptr || out == nullptr) return bad("server and out must be given", error);
    if (!server->started) return bad("the API server is not started", error);
    *out = new orc_client{server->server->client()};
    return ORC_OK;
  });
}
orc_code orc_api_server_kubeconfig(orc_api_server* server, orc_bytes* out, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (server == nullptr || out == nullptr) return bad("server and out must be given", error);
    if (!server->started) return bad("the API server is not started", error);
    auto text = server->server->kubeconfig();
    if (!text) return fail(text.error(), error);
    give(out, *text);
    return ORC_OK;
  });
}
orc_code orc_api_server_metrics(orc_api_server* server, const char* accept, orc_bytes* out,
                                orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (server == nullptr || out == nullptr) return bad("server and out must be given", error);
    if (!server->started) return bad("the API server is not started", error);
    give(out, metrics_page(*server->server->metrics(), accept));
    return ORC_OK;
  });
}
void orc_api_server_free(orc_api_server* server) { delete server; }

orc_code orc_node_new(orc_engine* engine, orc_client* client, const char* options_json, orc_node** out,
                      orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (engine == nullptr || client == nullptr || out == nullptr)
      return bad("engine, client and out must be given", error);
    auto parsed = parse_options(options_json, {.texts = {"data_dir", "node_name", "isolation", "pod_cidr",
                                                         "service_cidr", "pod_network", "dns", "ingress"},
                                               .lists = {"preload", "dns_forward"}});
    if (!parsed) return fail(parsed.error(), error);
    auto node = std::make_unique<orc_node>();
    node->engine = engine->engine.get();
    node->client = client->client;
    cluster::NodeOptions& options = node->options;
    options.data_dir = string_at(*parsed, "/data_dir");
    options.node_name = string_at(*parsed, "/node_name", "node");
    options.isolation = string_at(*parsed, "/isolation", "best");
    const std::string pods = string_at(*parsed, "/pod_cidr", cluster::kDefaultPodCidr);
    const std::string services = string_at(*parsed, "/service_cidr", cluster::kDefaultServiceCidr);
    if (auto checked = cluster::check_ranges(pods, services); !checked) return fail(checked.error(), error);
    options.pods = cluster::split_ranges("pod_cidr", pods).value();
    options.services = cluster::split_ranges("service_cidr", services).value();
    options.pod_network = string_at(*parsed, "/pod_network");
    options.dns = string_at(*parsed, "/dns");
    options.ingress = string_at(*parsed, "/ingress");
    options.preload = strings_at(*parsed, "/preload");
    options.dns_forward = strings_at(*parsed, "/dns_forward");
    if (options.data_dir.empty() || options.data_dir.front() != '/')
      return bad("data_dir must be an absolute path", error);
    *out = node.release();
    return ORC_OK;
  });
}
orc_code orc_node_start(orc_node* node, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (node == nullptr || node->node) return bad("node must be given and not be started twice", error);
    auto locked = cluster::lock_folder(*node->engine, node->options.data_dir, node->options.instance);
    if (!locked) return fail(locked.error(), error);
    node->lock = *locked;
    auto runtime = cluster::open_runtime(*node->engine, node->options.data_dir, node->options.instance,
                                         node->options.isolation);
    if (!runtime) return fail(runtime.error(), error);
    if (runtime->isolation == Isolation::process) {
      node->options.pods = {cluster::kProcessPodCidr, ""};
      node->options.services = {cluster::kProcessServiceCidr, ""};
    }
    node->options.api_host = cluster::address_in(cluster::join_ranges(node->options.services), 1);
    node->node =
        std::make_unique<cluster::Node>(*node->engine, node->client, node->options, std::move(*runtime));
    auto started = node->node->start();
    if (started) return ORC_OK;
    node->node.reset();
    return fail(started.error(), error);
  });
}
void orc_node_stop(orc_node* node) {
  if (node != nullptr && node->node) node->node->stop();
}
orc_code orc_node_down(orc_node* node, int64_t timeout_ms, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (node == nullptr || !node->node) return bad("the node is not started", error);
    auto ended = node->node->remove_everything(milliseconds(timeout_ms));
    return ended ? ORC_OK : fail(ended.error(), error);
  });
}
void orc_node_free(orc_node* node) { delete node; }
