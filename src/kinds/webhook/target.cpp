// Where webhooks are, and the catalog of them: see webhook.hpp.
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>

#include "api/meta.hpp"
#include "api/status.hpp"
#include "apiserver/webhook/webhook.hpp"
#include "base/base64.hpp"
#include "net/http/http_server.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::size_t kAnswerBytesMax = 8 << 20;
constexpr std::size_t kEndpointsMax = 1000;
const std::string kMutating =
    "/orchestra/objects/admissionregistration.k8s.io/mutatingwebhookconfigurations/";
const std::string kValidating =
    "/orchestra/objects/admissionregistration.k8s.io/validatingwebhookconfigurations/";

Error webhook_error(Error::Code code, const std::string& why) { return Error(code, "webhook", why); }

std::string with_port(const std::string& address, int port) {
  return (address.find(':') == std::string::npos ? address : "[" + address + "]") + ":" +
         std::to_string(port);
}

// The first address of a name that may be reached; one that may not refuses the whole name.
Result<std::string> resolved(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int failed = getaddrinfo(host.c_str(), nullptr, &hints, &found); failed != 0)
    return webhook_error(Error::unavailable, "cannot resolve host \"" + host + "\": " + gai_strerror(failed));
  std::vector<std::string> addresses;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    const void* raw = one->ai_family == AF_INET
                          ? static_cast<const void*>(&reinterpret_cast<sockaddr_in*>(one->ai_addr)->sin_addr)
                          : &reinterpret_cast<sockaddr_in6*>(one->ai_addr)->sin6_addr;
    if (inet_ntop(one->ai_family, raw, text.data(), text.size()) != nullptr)
      addresses.emplace_back(text.data());
  }
  freeaddrinfo(found);
  for (const std::string& address : addresses) {
    if (!webhook_may_reach(address))
      return webhook_error(Error::denied,
                           "host \"" + host + "\" has the address " + address +
                               ", which webhooks may not have (link-local, multicast or unspecified)");
  }
  if (addresses.empty()) return webhook_error(Error::unavailable, "host \"" + host + "\" has no address");
  return addresses.front();
}

Result<WebhookTarget> url_target(const std::string& url) {
  const std::string scheme = "https://";
  if (!url.starts_with(scheme))
    return webhook_error(Error::invalid, "\"" + url + "\" is not an https:// URL");
  const std::string rest = url.substr(scheme.size());
  const std::string authority = rest.substr(0, rest.find_first_of("/?#"));
  std::string host = authority;
  int port = 443;
  const std::size_t bracket = authority.find(']');
  const std::size_t colon = authority.find(':', bracket == std::string::npos ? 0 : bracket);
  if (colon != std::string::npos) {
    host = authority.substr(0, colon);
    const std::string text = authority.substr(colon + 1);
    port = std::atoi(text.c_str());
    if (text.empty() || port < 1 || port > 65535)
      return webhook_error(Error::invalid, "\"" + url + "\" has no valid port");
  }
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  if (host.empty() || authority.find('@') != std::string::npos)
    return webhook_error(Error::invalid, "\"" + url + "\" names no host");
  ORC_ASSIGN(const std::string address, resolved(host));
  WebhookTarget target;
  target.url = url;
  target.server_name = host;
  target.connect_address = with_port(address, port);
  return target;
}

struct ServicePlace {
  std::string ns, name, port_name;
};

// A ready endpoint of the Service's port.
Result<std::string> endpoint_of(const View& view, const ServicePlace& place) {
  const std::string who = "service \"" + place.ns + "/" + place.name + "\"";
  ORC_ASSIGN(const auto slices,
             view.range(objects_range({"discovery.k8s.io", "endpointslices"}, place.ns), kEndpointsMax));
  for (const KeyValue& kv : slices) {
    ORC_ASSIGN(const StoredView stored, decode_stored(kv.value.bytes()));
    if (stored.label("kubernetes.io/service-name") != place.name) continue;
    ORC_ASSIGN(const json::value slice, parse_json(stored.json));
    const json::array* ports = array_at(slice, "/ports");
    const json::array* endpoints = array_at(slice, "/endpoints");
    if (ports == nullptr || endpoints == nullptr) continue;
    std::int64_t port = 0;
    for (const json::value& one : *ports) {
      if (string_at(one, "/name") == place.port_name) port = int_at(one, "/port");
    }
    if (port == 0) continue;
    for (const json::value& endpoint : *endpoints) {
      if (!bool_at(endpoint, "/conditions/ready", true)) continue;
      const std::string address = string_at(endpoint, "/addresses/0");
      if (!address.empty() && webhook_may_reach(address)) return with_port(address, static_cast<int>(port));
    }
  }
  return webhook_error(Error::unavailable, "no endpoints available for " + who);
}

Result<WebhookTarget> service_target(const json::value& service, const View& view) {
  ServicePlace place{string_at(service, "/namespace"), string_at(service, "/name"), {}};
  const std::int64_t wanted = int_at(service, "/port", 443);
  const std::string who = "service \"" + place.ns + "/" + place.name + "\"";
  ORC_ASSIGN(const auto found, view.load(object_key({"", "services"}, place.ns, place.name)));
  if (!found) return webhook_error(Error::not_found, who + " not found");
  ORC_ASSIGN(const json::value tree, found->tree());
  if (string_at(tree, "/spec/type") == "ExternalName")
    return webhook_error(Error::denied, who + " is an ExternalName: give the webhook a url instead");
  bool known = false;
  if (const json::array* ports = array_at(tree, "/spec/ports")) {
    for (const json::value& port : *ports) {
      if (int_at(port, "/port") != wanted) continue;
      known = true;
      place.port_name = string_at(port, "/name");
    }
  }
  if (!known) return webhook_error(Error::not_found, who + " has no port " + std::to_string(wanted));
  ORC_ASSIGN(const std::string address, endpoint_of(view, place));
  WebhookTarget target;
  target.server_name = place.name + "." + place.ns + ".svc";
  target.connect_address = address;
  std::string path = string_at(service, "/path");
  if (!path.empty() && path[0] != '/') path.insert(0, "/");
  target.url = "https://" + target.server_name + ":" + std::to_string(wanted) + path;
  return target;
}
}  // namespace

bool webhook_may_reach(const std::string& address) {
  std::array<unsigned char, 16> bytes{};
  if (inet_pton(AF_INET, address.c_str(), bytes.data()) == 1) {
    const bool link = bytes[0] == 169 && bytes[1] == 254;
    return !link && bytes[0] != 0 && bytes[0] < 224;
  }
  if (inet_pton(AF_INET6, address.c_str(), bytes.data()) != 1) return false;
  static constexpr std::array<unsigned char, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
  if (std::equal(kMapped.begin(), kMapped.end(), bytes.begin())) {
    std::array<char, INET_ADDRSTRLEN> text{};
    inet_ntop(AF_INET, bytes.data() + 12, text.data(), text.size());
    return webhook_may_reach(text.data());
  }
  const bool link = bytes[0] == 0xFE && (bytes[1] & 0xC0) == 0x80;
  const bool none = std::all_of(bytes.begin(), bytes.end(), [](unsigned char byte) { return byte == 0; });
  return !link && !none && bytes[0] != 0xFF;
}

Result<WebhookTarget> webhook_target(const json::value& client_config, const View& view) {
  const std::string url = string_at(client_config, "/url");
  const json::value* service = find(client_config, "/service");
  if (url.empty() && service == nullptr)
    return webhook_error(Error::invalid, "the clientConfig has neither url nor service");
  ORC_ASSIGN(WebhookTarget target, url.empty() ? service_target(*service, view) : url_target(url));
  const std::string bundle = string_at(client_config, "/caBundle");
  if (bundle.empty()) return target;
  const auto pem = decode_base64_text(bundle);
  if (!pem) return webhook_error(Error::invalid, "the caBundle is not base64");
  target.ca_pem = *pem;
  return target;
}

WebhookCaller::WebhookCaller(Engine& engine) : http_(make_http_client(engine)) {}

Pending<HttpResponse> WebhookCaller::send(const WebhookTarget& target, const json::value& review,
                                          Duration timeout) const {
  HttpRequest request;
  request.method = "POST";
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout).count();
  request.url = target.url + "?timeout=" + std::to_string(seconds) + "s";
  request.headers = {{"Content-Type", "application/json"},
                     {"Accept", "application/json"},
                     {"User-Agent", "kube-apiserver-admission"}};
  request.body = to_json(review);
  request.tls.ca_pem = target.ca_pem;
  request.tls.server_name = target.server_name;
  request.connect_address = target.connect_address;
  request.connect_deadline = request.header_deadline = request.stall_deadline = request.total_deadline =
      timeout;
  request.body_bytes_max = kAnswerBytesMax;
  return http_->send(std::move(request));
}

Result<json::value> WebhookCaller::take(const WebhookTarget& target, Result<HttpResponse> answer,
                                        Duration timeout) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout).count();
  const std::string who = "Post \"" + target.url + "?timeout=" + std::to_string(seconds) + "s\": ";
  if (!answer) {
    if (answer.error().is(Error::deadline_exceeded))
      return webhook_error(Error::deadline_exceeded, who + "context deadline exceeded");
    return webhook_error(Error::unavailable, who + answer.error().message());
  }
  if (answer->status != 200)
    return webhook_error(Error::unavailable, who + "the server answered " + std::to_string(answer->status) +
                                                 ": " + answer->body.substr(0, 200));
  auto tree = parse_json(answer->body);
  if (!tree || !tree->is_object())
    return webhook_error(Error::unavailable, who + "the answer is not a JSON object");
  return std::move(*tree);
}

Result<json::value> WebhookCaller::call(const WebhookTarget& target, const json::value& review,
                                        Duration timeout) const {
  return take(target, send(target, review, timeout).wait(timeout + std::chrono::seconds(1)), timeout);
}

WebhookCatalog::WebhookCatalog(Engine& engine, std::shared_ptr<StateStore> store) {
  const auto follow = [&](const std::string& prefix, Configurations& into) {
    feeds_.emplace_back(
        engine, store, prefix, [&into] { into.clear(); },
        [&into, prefix](const std::string& key, const Value* value) { take(into, prefix, key, value); });
  };
  follow(kMutating, mutating_);
  follow(kValidating, validating_);
}

void WebhookCatalog::take(Configurations& into, const std::string& prefix, const std::string& key,
                          const Value* value) {
  const std::string name = key.substr(std::min(key.size(), key.find('/', prefix.size()) + 1));
  into.erase(name);
  if (value == nullptr) return;
  const auto view = decode_stored_frame(value->bytes());
  const auto tree = view ? parse_json(view->json) : Result<json::value>(view.error());
  const json::array* list = tree ? array_at(*tree, "/webhooks") : nullptr;
  if (list == nullptr) return;
  std::vector<WebhookPtr>& entries = into[name];
  for (const json::value& spec : *list) {
    Webhook entry{name,
                  string_at(spec, "/name"),
                  spec,
                  string_at(spec, "/failurePolicy", "Fail") == "Ignore",
                  string_at(spec, "/reinvocationPolicy") == "IfNeeded",
                  std::chrono::seconds(std::clamp<std::int64_t>(int_at(spec, "/timeoutSeconds", 10), 1, 30))};
    entries.push_back(std::make_shared<const Webhook>(std::move(entry)));
  }
}

Result<void> WebhookCatalog::refresh() {
  for (StoreFeed& feed : feeds_) {
    if (open_) {
      feed.refresh();
    } else {
      ORC_TRY(feed.load());
    }
  }
  open_ = true;
  return {};
}

Result<std::vector<WebhookPtr>> WebhookCatalog::list(bool mutating) {
  std::lock_guard lock(mutex_);
  if (auto read = refresh(); !read) return read.error().with_context("webhook configurations");
  std::vector<WebhookPtr> out;
  for (const auto& [name, entries] : mutating ? mutating_ : validating_)
    out.insert(out.end(), entries.begin(), entries.end());
  return out;
}

bool WebhookCatalog::wants(const api::TypeRecord& type) {
  std::lock_guard lock(mutex_);
  if (!refresh()) return true;
  const auto listed = [](const json::value& rule, const char* pointer, const std::string& word) {
    const json::array* list = array_at(rule, pointer);
    // What names a subresource may be meant; the exact question is asked later.
    return list != nullptr && std::any_of(list->begin(), list->end(), [&](const json::value& one) {
             return one == "*" || one == "*/*" || one == json::value(word) ||
                    (one.is_string() &&
                     std::string_view(one.get_string()).find('/') != std::string_view::npos);
           });
  };
  for (const Configurations* configurations : {&mutating_, &validating_}) {
    for (const auto& [name, entries] : *configurations) {
      for (const WebhookPtr& entry : entries) {
        const json::array* rules = array_at(entry->spec, "/rules");
        if (rules == nullptr) continue;
        for (const json::value& rule : *rules) {
          if (listed(rule, "/apiGroups", type.group) && listed(rule, "/resources", type.plural)) return true;
        }
      }
    }
  }
  return false;
}

}  // namespace orchestra::apiserver
