// Paths that are not resources: health, version, metrics, discovery, OpenAPI.
#include "apiserver/http_documents.hpp"

#include <openssl/evp.h>

#include <array>
#include <set>

#include "api/openapi.hpp"
#include "api/status.hpp"
#include "apiserver/auth/tokens.hpp"
#include "apiserver/gzip.hpp"
#include "apiserver/http_exchange.hpp"
#include "base/json.hpp"
#include "base/version.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::size_t kCompressFrom = 16 << 10;  // of documents that are compressed once and sent often
constexpr const char* kOpenapiV2Protobuf = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

std::string sha256_hex(std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned length = 0;
  EVP_Digest(text.data(), text.size(), digest.data(), &length, EVP_sha256(), nullptr);
  static constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  for (unsigned i = 0; i < length; ++i) {
    out += kHex[digest[i] >> 4];
    out += kHex[digest[i] & 15];
  }
  return out;
}

Reply text_reply(int code, std::string text) {
  Reply reply;
  reply.code = code;
  reply.content_type = "text/plain; charset=utf-8";
  reply.headers.emplace_back("X-Content-Type-Options", "nosniff");
  reply.body = std::move(text);
  return reply;
}

std::string git_version() {
  return std::string("v") + api::kApiLevelMajor + "." + api::kApiLevelMinor + ".0+orchestra." + kVersion;
}
std::string version_json() {
  json::object version{{"major", api::kApiLevelMajor},
                       {"minor", api::kApiLevelMinor},
                       {"emulationMajor", api::kApiLevelMajor},
                       {"emulationMinor", api::kApiLevelMinor},
                       {"gitVersion", git_version()},
                       {"gitCommit", kCommit},
                       {"gitTreeState", "clean"},
                       {"buildDate", "2026-11-23T00:00:00Z"},
                       {"goVersion", "none"},
                       {"compiler", "g++"},
                       {"platform", "linux/amd64"}};
  return to_pretty_json(version) + "\n";
}

// Which aggregated discovery the client takes: "v2", "v2beta1" or none.
std::string aggregated_version(const std::string& accept) {
  for (const std::string& range : split(accept, ',')) {
    if (range.find("as=APIGroupDiscoveryList") == std::string::npos) {
      if (trim(range).starts_with("application/json")) return {};
      continue;
    }
    if (range.find("v=v2beta1") != std::string::npos) return "v2beta1";
    if (range.find("v=v2") != std::string::npos) return "v2";
  }
  return {};
}
}  // namespace

std::shared_ptr<const HttpFront::Documents::Document> HttpFront::Documents::get(
    const std::shared_ptr<const api::TypeRegistry>& registry, const std::string& name,
    const std::function<std::string()>& make) {
  {
    std::lock_guard lock(mutex_);
    if (registry_ != registry) {
      registry_ = registry;
      documents_.clear();
    }
    if (const auto found = documents_.find(name); found != documents_.end()) return found->second;
  }
  auto document = std::make_shared<Document>();
  document->body = make();
  if (document->body.empty()) return document;
  document->etag = "\"" + sha256_hex(document->body) + "\"";
  if (document->body.size() >= kCompressFrom) document->compressed = gzip(document->body);
  std::lock_guard lock(mutex_);
  if (registry_ == registry) documents_[name] = document;
  return document;
}

Reply HttpFront::health(const Exchange& exchange, const std::string& check) const {
  std::vector<std::pair<std::string, bool>> checks = {{"ping", true}, {"log", true}};
  checks.emplace_back("etcd", core_->store().revision() > 0);  // the name that probes and dashboards know
  if (check != "livez") checks.emplace_back("poststarthook/bootstrap-objects", ready_.load());
  if (const std::string own = "/" + check + "/"; exchange.info.path.starts_with(own)) {
    const auto one = std::find_if(checks.begin(), checks.end(), [&](const auto& each) {
      return each.first == std::string_view(exchange.info.path).substr(own.size());
    });
    if (one == checks.end()) return error_reply(api::unknown_path());
    return one->second ? text_reply(200, "ok") : text_reply(500, "internal server error: not ready\n");
  }
  std::set<std::string> excluded;
  const auto [begin, end] = exchange.info.query.equal_range("exclude");
  for (auto it = begin; it != end; ++it) excluded.insert(it->second);
  bool well = true;
  std::string text;
  for (const auto& [name, ok] : checks) {
    if (excluded.erase(name) > 0) {
      text += "[+]" + name + " excluded: ok\n";
      continue;
    }
    well = well && ok;
    text += ok ? "[+]" + name + " ok\n" : "[-]" + name + " failed: reason withheld\n";
  }
  std::string unknown;
  for (const std::string& name : excluded) unknown += (unknown.empty() ? "\"" : ",\"") + name + "\"";
  if (!unknown.empty())
    text += "warn: some health checks cannot be excluded: no matches for " + unknown + "\n";
  if (well && !exchange.info.query.contains("verbose")) return text_reply(200, "ok");
  return text_reply(well ? 200 : 500, text + check + (well ? " check passed\n" : " check failed\n"));
}

Reply HttpFront::openapi(const Exchange& exchange) const {
  const auto registry = core_->registry();
  const std::string& path = exchange.info.path;
  Reply reply;
  std::shared_ptr<const Documents::Document> document;
  if (path == "/openapi/v2") {
    // `application/com.github.proto-openapi.spec.v2@v1.0+protobuf` is how kubectl asks for protobuf.
    const std::string accept = exchange.header("accept");
    const bool protobuf = accept.find("proto-openapi") != std::string::npos;
    document = documents_->get(registry, protobuf ? "v2.pb" : "v2", [&] {
      return protobuf ? api::openapi_v2_protobuf(*registry) : api::openapi_v2_json(*registry);
    });
    if (protobuf) reply.content_type = kOpenapiV2Protobuf;
  } else if (path == "/openapi/v3") {
    document = documents_->get(registry, "v3", [&] { return api::openapi_v3_index(*registry); });
  } else {
    const std::string name = path.substr(std::string_view("/openapi/v3/").size());
    document = documents_->get(registry, path, [&] { return api::openapi_v3_at(*registry, name); });
    if (document->body.empty()) return error_reply(api::unknown_path());
    const std::string asked = query_value(exchange.info.query, "hash");
    const std::string hash = api::openapi_hash(document->body);
    if (!asked.empty() && asked != hash) {
      reply.code = 301;
      reply.headers.emplace_back("Location", path + "?hash=" + hash);
      return reply;
    }
    if (!asked.empty()) {
      reply.headers.emplace_back("Cache-Control", "public, immutable");
      reply.headers.emplace_back("Expires", "Fri, 31 Dec 2049 23:59:59 GMT");
    }
  }
  if (document->body.empty()) return error_reply(api::unknown_path());
  reply.headers.emplace_back("ETag", document->etag);
  reply.headers.emplace_back("Vary", "Accept-Encoding, Accept");
  if (exchange.header("if-none-match") == document->etag) {
    reply.code = 304;
    return reply;
  }
  if (!document->compressed.empty() && exchange.header("accept-encoding").find("gzip") != std::string::npos) {
    reply.headers.emplace_back("Content-Encoding", "gzip");
    reply.body = document->compressed;
  } else {
    reply.body = document->body;
  }
  return reply;
}

Reply HttpFront::discovery(const Exchange& exchange) const {
  const auto registry = core_->registry();
  const std::string& path = exchange.info.path;
  Reply reply;
  const std::string version = aggregated_version(exchange.header("accept"));
  std::string name = path;
  std::function<std::string()> make;
  const bool root = path == "/api" || path == "/apis";
  std::string address;
  {
    std::lock_guard lock(mutex_);
    address = address_;
  }
  const std::vector<std::string> parts = split(path.substr(1), '/');
  if (root && !version.empty()) {
    name += "#" + version;
    make = [&] { return api::discovery_aggregated(*registry, path == "/api", version); };
    reply.content_type = "application/json;g=apidiscovery.k8s.io;v=" + version + ";as=APIGroupDiscoveryList";
  } else if (path == "/api") {
    make = [&] { return api::discovery_api(address); };
  } else if (path == "/apis") {
    make = [&] { return api::discovery_apis(*registry); };
  } else if (parts[0] == "api" && parts.size() == 2) {
    make = [&] { return api::discovery_resources(*registry, "", parts[1]); };
  } else if (parts[0] == "apis" && parts.size() == 2) {
    make = [&] { return api::discovery_group(*registry, parts[1]); };
  } else if (parts[0] == "apis" && parts.size() == 3) {
    make = [&] { return api::discovery_resources(*registry, parts[1], parts[2]); };
  } else {
    return error_reply(api::unknown_path());
  }
  const auto document = documents_->get(registry, name, make);
  if (document->body.empty()) return error_reply(api::unknown_path());
  reply.headers.emplace_back("ETag", document->etag);
  reply.headers.emplace_back("Vary", "Accept");
  if (exchange.header("if-none-match") == document->etag) {
    reply.code = 304;
    return reply;
  }
  if (!document->compressed.empty() && exchange.header("accept-encoding").find("gzip") != std::string::npos) {
    reply.headers.emplace_back("Content-Encoding", "gzip");
    reply.body = document->compressed;
  } else {
    reply.body = document->body;
  }
  return reply;
}

void HttpFront::collect(MetricSink& sink) const {
  const auto gauge = [&sink](const char* name, const char* help, const MetricLabels& labels,
                             std::size_t value) {
    sink.sample(MetricKind::gauge, name, help, labels, static_cast<double>(value));
  };
  const char* in_flight = "apiserver_current_inflight_requests";
  gauge(in_flight, "Requests being answered.", {{"request_kind", "readOnly"}}, reads_.load());
  gauge(in_flight, "Requests being answered.", {{"request_kind", "mutating"}}, writes_.load());
  gauge("apiserver_watchers", "Watches that are open, over HTTP and in process.", {}, core_->watchers.load());
  sink.sample(MetricKind::gauge, "kubernetes_build_info", "What this server says it is.",
              {{"major", api::kApiLevelMajor},
               {"minor", api::kApiLevelMinor},
               {"git_version", git_version()},
               {"git_commit", kCommit}},
              1);
  collect_store(sink, core_->store().status());
}

Reply HttpFront::metrics(const Exchange& exchange) const {
  const MetricsFormat format = metrics_format(exchange.header("accept"));
  Reply reply;
  reply.content_type = metrics_content_type(format);
  reply.more = requests_.registry().pieces(format);
  compress(exchange, reply);
  return reply;
}

// OIDC discovery: how outsiders verify service account tokens.
Reply HttpFront::openid(const Exchange& exchange) const {
  const auto tokens = core_->tokens();
  if (tokens == nullptr)
    return error_reply(api::service_unavailable("this server has no key for tokens yet"));
  Reply reply;
  reply.headers.emplace_back("Cache-Control", "public, max-age=3600");
  if (exchange.info.path == "/openid/v1/jwks") {
    reply.content_type = "application/jwk-set+json";
    reply.body = tokens->issuer->jwks();
    return reply;
  }
  std::string address;
  {
    std::lock_guard lock(mutex_);
    address = address_;
  }
  const json::object document{
      {"issuer", tokens->issuer->issuer()},
      {"jwks_uri", "https://" + address + "/openid/v1/jwks"},
      {"response_types_supported", json::array{"id_token"}},
      {"subject_types_supported", json::array{"public"}},
      {"id_token_signing_alg_values_supported", json::array{json::value(tokens->issuer->algorithm())}}};
  reply.body = json::serialize(document);
  return reply;
}

Reply HttpFront::fixed(const Exchange& exchange) {
  const std::string& path = exchange.info.path;
  if (exchange.info.verb != "get") {
    return error_reply(api::status_error(api::make_status(
        405, "MethodNotAllowed", "the server does not allow this method on the requested resource")));
  }
  for (const char* check : {"healthz", "livez", "readyz"}) {
    if (path == std::string("/") + check || path.starts_with(std::string("/") + check + "/")) {
      return health(exchange, check);
    }
  }
  if (path == "/version") {
    Reply reply;
    reply.body = version_json();
    return reply;
  }
  if (path == "/metrics") return metrics(exchange);
  if (path == "/.well-known/openid-configuration" || path == "/openid/v1/jwks") return openid(exchange);
  if (path == "/openapi/v2" || path == "/openapi/v3" || path.starts_with("/openapi/v3/"))
    return openapi(exchange);
  if (path == "/api" || path == "/apis" || path.starts_with("/api/") || path.starts_with("/apis/")) {
    return discovery(exchange);
  }
  Endpoint endpoint;
  std::string paths;
  {
    std::lock_guard lock(mutex_);
    if (const auto found = endpoints_.find(path); found != endpoints_.end()) endpoint = found->second;
    for (const auto& [name, ignored] : endpoints_) paths += ",\"" + name + "\"";
  }
  if (endpoint.text) {
    Reply reply = text_reply(200, endpoint.text());
    reply.content_type = endpoint.content_type;
    return reply;
  }
  if (path == "/") {
    Reply reply;
    reply.body = "{\"paths\":[\"/api\",\"/api/v1\",\"/apis\"";
    for (const auto& version : core_->registry()->group_versions()) {
      if (!version.group.empty()) reply.body += ",\"/apis/" + version.group + "/" + version.version + "\"";
    }
    reply.body +=
        ",\"/healthz\",\"/livez\",\"/metrics\",\"/openapi/v2\",\"/openapi/v3\",\"/readyz\",\"/version\"" +
        paths + "]}\n";
    return reply;
  }
  return error_reply(api::unknown_path());
}

}  // namespace orchestra::apiserver
