// orc_dns_*, orc_lb_*: names and services without a cluster.
#include <map>
#include <vector>

#include "bindings/c/handles.hpp"
#include "orchestra/dns_server.hpp"
#include "orchestra/service_proxy.hpp"

using namespace orchestra;
using namespace orchestra::c;

struct orc_dns {
  std::shared_ptr<DnsServer> server;
};
struct orc_dns_reply {
  std::vector<std::string> records;
};
struct orc_lb {
  std::shared_ptr<ServiceProxy> proxy;
  std::vector<std::string> loopback_ranges;
  std::mutex mutex;
  std::int64_t revision = 0;
};

namespace {

/// An array of objects, or a List of them.
Result<NetworkInputs> inputs_of(const char* text, std::size_t size) {
  ORC_ASSIGN(const json::value value, parse_json({text, size}));
  const json::array* items = value.is_array() ? &value.get_array() : array_at(value, "/items");
  if (items == nullptr) return Error(Error::invalid, "c", "objects must be a JSON array or a List");
  NetworkInputs inputs;
  const std::map<std::string_view, NetworkInput*> places = {{"Service", &inputs.services},
                                                            {"EndpointSlice", &inputs.endpoint_slices},
                                                            {"Pod", &inputs.pods},
                                                            {"Node", &inputs.nodes},
                                                            {"Namespace", &inputs.namespaces}};
  for (const json::value& item : *items) {
    ORC_ASSIGN(Object object, Object::from_json(to_json(item)));
    const auto place = places.find(object.kind());
    if (place == places.end())
      return Error(Error::invalid, "c",
                   "names and services know no objects of kind \"" + object.kind() + "\"");
    place->second->objects.push_back(std::move(object));
  }
  for (const auto& [kind, input] : places) input->synced = true;
  return inputs;
}

Result<DnsServerOptions> dns_options(const char* text) {
  ORC_ASSIGN(const json::value value,
             parse_options(text, {.texts = {"zone", "forward_policy", "forward_ca_pem", "certificate_pem",
                                            "key_pem", "pods", "namespace_labels", "labels"},
                                  .flags = {"autopath", "endpoint_pod_names", "no_endpoints",
                                            "ignore_empty_services", "zonal"},
                                  .lists = {"listen", "listen_tls", "listen_https", "forward", "allow_from",
                                            "reverse_ranges", "namespaces", "fallthrough"}}));
  DnsServerOptions options;
  if (const auto listen = strings_at(value, "/listen"); !listen.empty()) options.listen = listen;
  options.listen_tls = strings_at(value, "/listen_tls");
  options.listen_https = strings_at(value, "/listen_https");
  if (array_at(value, "/listen") == nullptr && options.listen_tls.size() + options.listen_https.size() > 0)
    options.listen.clear();
  options.certificate_pem = string_at(value, "/certificate_pem");
  options.key_pem = string_at(value, "/key_pem");
  options.forward = strings_at(value, "/forward");
  options.allow_from = strings_at(value, "/allow_from");
  options.reverse_ranges = strings_at(value, "/reverse_ranges");
  options.zone = string_at(value, "/zone");
  options.forward_ca_pem = string_at(value, "/forward_ca_pem");
  options.autopath = bool_at(value, "/autopath", false);
  options.names.endpoint_pod_names = bool_at(value, "/endpoint_pod_names", false);
  options.names.no_endpoints = bool_at(value, "/no_endpoints", false);
  options.names.ignore_empty_services = bool_at(value, "/ignore_empty_services", false);
  options.names.zonal = bool_at(value, "/zonal", false);
  options.names.namespaces = strings_at(value, "/namespaces");
  options.names.namespace_labels = string_at(value, "/namespace_labels");
  options.names.labels = string_at(value, "/labels");
  options.names.fallthrough = strings_at(value, "/fallthrough");
  const std::string pods = string_at(value, "/pods");
  if (pods == "insecure") {
    options.names.pods = DnsPodNames::insecure;
  } else if (pods == "disabled") {
    options.names.pods = DnsPodNames::disabled;
  } else if (!pods.empty() && pods != "verified") {
    return Error(Error::invalid, "c", "pods must be verified, insecure or disabled");
  }
  const std::string policy = string_at(value, "/forward_policy");
  if (policy == "sequential") {
    options.forward_policy = DnsForwardPolicy::sequential;
  } else if (policy == "round_robin") {
    options.forward_policy = DnsForwardPolicy::round_robin;
  } else if (!policy.empty() && policy != "random") {
    return Error(Error::invalid, "c", "forward_policy must be random, round_robin or sequential");
  }
  return options;
}

Result<ServiceProxyOptions> lb_options(const json::value& value) {
  ServiceProxyOptions options;
  options.node = string_at(value, "/node");
  options.instance = string_at(value, "/instance");
  options.cluster_cidr = string_at(value, "/cluster_cidr");
  options.service_cidr = string_at(value, "/service_cidr");
  options.node_gateway = string_at(value, "/node_gateway");
  const std::string mode = string_at(value, "/mode");
  if (mode == "nftables") {
    options.mode = ServiceProxyOptions::Mode::nftables;
  } else if (mode == "userspace") {
    options.mode = ServiceProxyOptions::Mode::userspace;
  } else if (!mode.empty() && mode != "automatic") {
    return Error(Error::invalid, "c", "mode must be automatic, nftables or userspace");
  }
  return options;
}

orc_code add_zone(orc_dns* dns, Result<std::shared_ptr<const DnsZone>> zone, orc_error** error) {
  if (!zone) return fail(zone.error(), error);
  const auto added = dns->server->add_zone(std::move(*zone));
  return added ? ORC_OK : fail(added.error(), error);
}

std::string result_text(const ApplyResult& applied) {
  json::array rejected;
  for (const NetworkRejection& one : applied.rejected) {
    rejected.push_back(json::object{{"kind", one.kind},
                                    {"namespace", one.ns},
                                    {"name", one.name},
                                    {"reason", one.reason},
                                    {"message", one.message}});
  }
  return to_json(json::object{{"revision", applied.revision},
                              {"services", applied.services},
                              {"changes", applied.changes},
                              {"rejected", std::move(rejected)}});
}

}  // namespace

orc_code orc_dns_new(orc_engine* engine, const char* options_json, orc_dns** out, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (engine == nullptr || out == nullptr) return bad("engine and out must be given", error);
    auto options = dns_options(options_json);
    if (!options) return fail(options.error(), error);
    auto server = DnsServer::create(*engine->engine, std::move(*options));
    if (!server) return fail(server.error(), error);
    *out = new orc_dns{std::move(*server)};
    return ORC_OK;
  });
}

orc_code orc_dns_address(orc_dns* dns, size_t index, orc_bytes* out, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (dns == nullptr || out == nullptr) return bad("dns and out must be given", error);
    const auto addresses = dns->server->addresses();
    if (index >= addresses.size())
      return fail(Error(Error::not_found, "c", "there is no address " + std::to_string(index)), error);
    give(out, addresses[index]);
    return ORC_OK;
  });
}

orc_code orc_dns_zone_file(orc_dns* dns, const char* path, const char* name, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (dns == nullptr || path == nullptr) return bad("dns and path must be given", error);
    return add_zone(dns, DnsZone::from_master_file(path, text_of(name)), error);
  });
}

orc_code orc_dns_zone_text(orc_dns* dns, const char* text, size_t size, const char* name, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (dns == nullptr || text == nullptr) return bad("dns and text must be given", error);
    return add_zone(dns, DnsZone::from_text({text, size}, text_of(name)), error);
  });
}

void orc_dns_reply_add(orc_dns_reply* reply, const char* record) {
  if (reply != nullptr && record != nullptr) reply->records.emplace_back(record);
}

orc_code orc_dns_zone_callback(orc_dns* dns, const char* name, orc_dns_answer answer, void* user,
                               orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (dns == nullptr || name == nullptr || answer == nullptr)
      return bad("dns, name and answer must be given", error);
    const auto ask = [answer, user](const DnsAsked& asked) -> DnsReply {
      orc_dns_reply reply;
      const int code = answer(user, asked.name.c_str(), asked.type.c_str(), &reply);
      if (code != 0 && code != 2 && code != 3 && code != 5) return {.code = DnsReplyCode::server_failure};
      return {static_cast<DnsReplyCode>(code), std::move(reply.records)};
    };
    return add_zone(dns, DnsZone::from_callback(name, ask), error);
  });
}

orc_code orc_dns_remove_zone(orc_dns* dns, const char* name, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (dns == nullptr || name == nullptr) return bad("dns and name must be given", error);
    const auto removed = dns->server->remove_zone(name);
    return removed ? ORC_OK : fail(removed.error(), error);
  });
}

orc_code orc_dns_publish(orc_dns* dns, const char* objects_json, size_t size, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (dns == nullptr || objects_json == nullptr) return bad("dns and objects must be given", error);
    const auto inputs = inputs_of(objects_json, size);
    if (!inputs) return fail(inputs.error(), error);
    dns->server->publish(NetworkSnapshot::build(*inputs));
    return ORC_OK;
  });
}

void orc_dns_free(orc_dns* dns) {
  if (dns != nullptr) dns->server->stop();
  delete dns;
}

orc_code orc_lb_new(orc_engine* engine, const char* options_json, orc_lb** out, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (engine == nullptr || out == nullptr) return bad("engine and out must be given", error);
    const auto value = parse_options(
        options_json, {.texts = {"node", "instance", "cluster_cidr", "service_cidr", "node_gateway", "mode"},
                       .lists = {"loopback_ranges"}});
    if (!value) return fail(value.error(), error);
    auto options = lb_options(*value);
    if (!options) return fail(options.error(), error);
    auto proxy = ServiceProxy::create(*engine->engine, std::move(*options));
    if (!proxy) return fail(proxy.error(), error);
    auto made = std::make_unique<orc_lb>();
    made->proxy = std::move(*proxy);
    made->loopback_ranges = strings_at(*value, "/loopback_ranges");
    *out = made.release();
    return ORC_OK;
  });
}

orc_code orc_lb_apply(orc_lb* lb, const char* objects_json, size_t size, int64_t timeout_ms,
                      orc_bytes* result, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (lb == nullptr || objects_json == nullptr) return bad("lb and objects must be given", error);
    auto inputs = inputs_of(objects_json, size);
    if (!inputs) return fail(inputs.error(), error);
    inputs->loopback_ranges = lb->loopback_ranges;
    std::shared_ptr<const NetworkSnapshot> snapshot;
    // The proxy works in the order in which it is given snapshots; under the lock, that is the order of
    // revisions. Waiting is done outside of it.
    const auto hand_over = [&] {
      std::lock_guard lock(lb->mutex);
      inputs->revision = ++lb->revision;
      snapshot = NetworkSnapshot::build(*inputs);
      return lb->proxy->apply(snapshot);
    };
    auto applied = hand_over().wait(milliseconds(timeout_ms));
    if (!applied) return fail(applied.error(), error);
    applied->rejected.insert(applied->rejected.begin(), snapshot->rejected.begin(), snapshot->rejected.end());
    if (result != nullptr) give(result, result_text(*applied));
    return ORC_OK;
  });
}

orc_code orc_lb_explain(orc_lb* lb, const char* target, orc_bytes* out, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (lb == nullptr || target == nullptr || out == nullptr)
      return bad("lb, target and out must be given", error);
    const auto text = lb->proxy->explain(target);
    if (!text) return fail(text.error(), error);
    give(out, *text);
    return ORC_OK;
  });
}

orc_code orc_lb_teardown(orc_lb* lb, int64_t timeout_ms, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (lb == nullptr) return bad("lb must be given", error);
    const auto done = lb->proxy->teardown().wait(milliseconds(timeout_ms));
    return done ? ORC_OK : fail(done.error(), error);
  });
}

void orc_lb_free(orc_lb* lb) { delete lb; }
