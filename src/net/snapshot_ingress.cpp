// Ingresses, their classes and their certificates as the L7 proxy needs them.
#include <openssl/evp.h>

#include <algorithm>
#include <cctype>

#include "api/object_tree.hpp"
#include "net/snapshot_parse.hpp"

namespace orchestra::net {
namespace {

/// Strict base64 as Secrets hold it; nullopt when it is not.
std::optional<std::string> decode_base64(std::string_view text) {
  std::string packed;
  for (const char c : text) {
    if (c != '\n' && c != '\r') packed.push_back(c);
  }
  if (packed.size() % 4 != 0) return std::nullopt;
  if (packed.empty()) return std::string();
  std::string out(packed.size() / 4 * 3, '\0');
  const int size = ::EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                     reinterpret_cast<const unsigned char*>(packed.data()),
                                     static_cast<int>(packed.size()));
  if (size < 0) return std::nullopt;
  const auto padding = std::count(packed.end() - 2, packed.end(), '=');
  out.resize(static_cast<std::size_t>(size) - static_cast<std::size_t>(padding));
  return out;
}

std::optional<IngressBackend> parse_backend(const json::value* item) {
  if (item == nullptr) return std::nullopt;
  IngressBackend backend;
  backend.service = string_at(*item, "/service/name");
  backend.port_name = string_at(*item, "/service/port/name");
  const auto number = int_at(*item, "/service/port/number");
  if (number > 0 && number < 65536) backend.port = static_cast<std::uint16_t>(number);
  if (backend.service.empty() || (backend.port == 0 && backend.port_name.empty())) return std::nullopt;
  return backend;
}

IngressPathType parse_path_type(std::string_view text) {
  if (text == "Exact") return IngressPathType::exact;
  if (text == "Prefix") return IngressPathType::prefix;
  return IngressPathType::implementation_specific;
}

IngressRule parse_rule(const Object& object, const json::value& item, Rejections& rejections) {
  IngressRule rule;
  rule.host = string_at(item, "/host");
  std::transform(rule.host.begin(), rule.host.end(), rule.host.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const auto* paths = array_at(item, "/http/paths");
  if (paths == nullptr) return rule;
  for (const auto& entry : *paths) {
    IngressPath path;
    path.path = string_at(entry, "/path", "/");
    if (path.path.empty()) path.path = "/";
    path.type = parse_path_type(string_at(entry, "/pathType"));
    const auto backend = parse_backend(find(entry, "/backend"));
    if (!backend || path.path.front() != '/') {
      rejections.add(object, "InvalidPath",
                     "path \"" + path.path + "\" of host \"" + rule.host +
                         "\" must begin with / and name a Service and its port");
      continue;
    }
    path.backend = *backend;
    rule.paths.push_back(std::move(path));
  }
  return rule;
}

}  // namespace

std::shared_ptr<NetworkIngress> parse_ingress(const Object& object, Rejections& rejections) {
  const auto& root = tree(object);
  auto ingress = std::make_shared<NetworkIngress>();
  ingress->ns = object.ns();
  ingress->name = object.name();
  ingress->uid = object.uid();
  ingress->resource_version = object.resource_version();
  ingress->created = string_at(root, "/metadata/creationTimestamp");
  ingress->labels = object.labels();
  ingress->annotations = object.annotations();
  ingress->class_name = string_at(root, "/spec/ingressClassName");
  if (ingress->class_name.empty()) {
    const auto old = ingress->annotations.find("kubernetes.io/ingress.class");
    if (old != ingress->annotations.end()) ingress->class_name = old->second;
  }
  ingress->default_backend = parse_backend(find(root, "/spec/defaultBackend"));
  if (const auto* rules = array_at(root, "/spec/rules")) {
    for (const auto& item : *rules) ingress->rules.push_back(parse_rule(object, item, rejections));
  }
  if (const auto* tls = array_at(root, "/spec/tls")) {
    for (const auto& item : *tls) {
      IngressTls entry;
      entry.secret = string_at(item, "/secretName");
      if (const auto* hosts = array_at(item, "/hosts")) {
        for (const auto& host : *hosts) {
          if (host.is_string()) entry.hosts.emplace_back(host.as_string());
        }
      }
      ingress->tls.push_back(std::move(entry));
    }
  }
  return ingress;
}

std::shared_ptr<NetworkIngressClass> parse_ingress_class(const Object& object) {
  auto entry = std::make_shared<NetworkIngressClass>();
  entry->name = object.name();
  entry->controller = string_at(tree(object), "/spec/controller");
  const auto mark = object.annotations().find("ingressclass.kubernetes.io/is-default-class");
  entry->is_default = mark != object.annotations().end() && mark->second == "true";
  return entry;
}

std::shared_ptr<NetworkTlsSecret> parse_tls_secret(const Object& object, Rejections& rejections) {
  const auto& root = tree(object);
  auto secret = std::make_shared<NetworkTlsSecret>();
  secret->ns = object.ns();
  secret->name = object.name();
  secret->resource_version = object.resource_version();
  const auto certificate = decode_base64(string_at(root, "/data/tls.crt"));
  const auto key = decode_base64(string_at(root, "/data/tls.key"));
  if (string_at(root, "/type") != "kubernetes.io/tls" || !certificate || !key || certificate->empty() ||
      key->empty()) {
    rejections.add(object, "InvalidTlsSecret",
                   "an Ingress names this Secret for TLS, but it is not of type kubernetes.io/tls with "
                   "tls.crt and tls.key in base64");
    return nullptr;
  }
  secret->certificate_pem = *certificate;
  secret->key_pem = *key;
  return secret;
}

}  // namespace orchestra::net
