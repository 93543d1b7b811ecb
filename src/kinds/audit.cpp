// Audit events: see audit.hpp. Shapes and matching as upstream apiserver/pkg/audit and its policy checker.
#include <algorithm>

#include "api/meta.hpp"
#include "api/protobuf.hpp"
#include "api/walker.hpp"
#include "apiserver/audit/audit.hpp"
#include "base/json.hpp"
#include "base/yaml.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::size_t kRulesMax = 1000;
constexpr std::string_view kProtobufMagic("k8s\0", 4);
constexpr std::size_t kBodyBytesMax = 1 << 20;  // of one object in an event

// Kinds whose bodies hold what nobody may read in a log.
bool is_secret(const RequestInfo& info) {
  return (info.group.empty() && info.resource == "secrets") ||
         (info.group.empty() && info.resource == "serviceaccounts" && info.subresource == "token") ||
         (info.group == "authentication.k8s.io" && info.resource == "tokenreviews");
}

std::vector<std::string> words_at(const json::value& value, const char* pointer) {
  std::vector<std::string> out;
  if (const json::array* list = array_at(value, pointer)) {
    for (const json::value& one : *list) {
      if (one.is_string()) out.emplace_back(one.get_string());
    }
  }
  return out;
}
bool has(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}
bool path_matches(const std::vector<std::string>& urls, const std::string& path) {
  return std::any_of(urls.begin(), urls.end(), [&](const std::string& url) {
    if (url == "*" || url == path) return true;
    return url.ends_with('*') && path.starts_with(url.substr(0, url.size() - 1));
  });
}

json::object user_json(const Identity& user) {
  json::object out{{"username", user.user}};
  if (!user.uid.empty()) out["uid"] = user.uid;
  json::array groups;
  for (const std::string& group : user.groups) groups.push_back(json::value(group));
  if (!groups.empty()) out["groups"] = std::move(groups);
  json::object extra;
  for (const auto& [key, values] : user.extra) {
    json::array list;
    for (const std::string& value : values) list.push_back(json::value(value));
    extra[key] = std::move(list);
  }
  if (!extra.empty()) out["extra"] = std::move(extra);
  return out;
}

json::object reference_json(const RequestInfo& info) {
  json::object out{{"resource", info.resource}};
  if (!info.ns.empty()) out["namespace"] = info.ns;
  if (!info.name.empty()) out["name"] = info.name;
  if (!info.group.empty()) out["apiGroup"] = info.group;
  out["apiVersion"] = info.version;
  if (!info.subresource.empty()) out["subresource"] = info.subresource;
  return out;
}

// An object as JSON; nothing where the body is none (compressed, a message of a subresource), or too long.
std::optional<json::value> object_in(const std::string& body, bool yaml, const RequestInfo& info) {
  if (body.empty() || body.size() > kBodyBytesMax) return std::nullopt;
  if (body.starts_with(kProtobufMagic)) {
    const api::TypePtr type = api::TypeRegistry::builtin()->find(info.group, info.version, info.resource);
    const api::TypeVersion* version = type == nullptr ? nullptr : type->version(info.version);
    if (version == nullptr || !info.subresource.empty()) return std::nullopt;
    auto decoded = api::decode_protobuf(body, version->schema);
    if (!decoded || string_at(*decoded, "/kind") != type->kind ||
        !api::prune_unknown(version->schema, *decoded))
      return std::nullopt;
    return std::move(*decoded);
  }
  auto tree = yaml ? parse_yaml(body) : parse_json(body);
  if (!tree) return std::nullopt;
  return std::move(*tree);
}
}  // namespace

struct AuditLog::Record {
  AuditLevel level = AuditLevel::none;
  RequestInfo info;
  Identity user;
  std::string id, target, agent, source, body, content_type;
  std::int64_t received_ns = 0;
};

Result<AuditPolicy> AuditPolicy::parse(const std::string& text) {
  AuditPolicy policy;
  if (text.empty()) {
    policy.rules_.push_back({.level = AuditLevel::metadata});
    return policy;
  }
  ORC_ASSIGN(const json::value tree, parse_yaml(text));
  const auto bad = [](const std::string& why) {
    return Error(Error::invalid, "audit", "audit policy: " + why);
  };
  if (string_at(tree, "/kind") != "Policy")
    return bad("kind is \"" + string_at(tree, "/kind") + "\", not Policy");
  const json::array* rules = array_at(tree, "/rules");
  if (rules == nullptr || rules->empty())
    return bad("it has no rules; write one with level: None to tell nothing");
  if (rules->size() > kRulesMax) return bad("more than 1000 rules");
  for (std::size_t i = 0; i < rules->size(); ++i) {
    const json::value& from = (*rules)[i];
    Rule rule;
    const std::string level = string_at(from, "/level");
    if (level == "None") {
      rule.level = AuditLevel::none;
    } else if (level == "Metadata") {
      rule.level = AuditLevel::metadata;
    } else if (level == "Request") {
      rule.level = AuditLevel::request;
    } else if (level == "RequestResponse") {
      rule.level = AuditLevel::request_response;
    } else {
      return bad("rules[" + std::to_string(i) + "].level is \"" + level +
                 "\": it must be None, Metadata, Request or RequestResponse");
    }
    rule.users = words_at(from, "/users");
    rule.groups = words_at(from, "/userGroups");
    rule.verbs = words_at(from, "/verbs");
    rule.namespaces = words_at(from, "/namespaces");
    rule.urls = words_at(from, "/nonResourceURLs");
    if (const json::array* resources = array_at(from, "/resources")) {
      for (const json::value& one : *resources)
        rule.resources.push_back(
            {string_at(one, "/group"), words_at(one, "/resources"), words_at(one, "/resourceNames")});
    }
    if (!rule.urls.empty() && (!rule.resources.empty() || !rule.namespaces.empty()))
      return bad("rules[" + std::to_string(i) + "] has both nonResourceURLs and resources or namespaces");
    policy.rules_.push_back(std::move(rule));
  }
  return policy;
}

bool AuditPolicy::matches(const Rule& rule, const Identity& user, const RequestInfo& info) {
  if (!rule.users.empty() && !has(rule.users, user.user)) return false;
  if (!rule.groups.empty() && std::none_of(rule.groups.begin(), rule.groups.end(),
                                           [&](const std::string& group) { return user.in_group(group); }))
    return false;
  if (!rule.verbs.empty() && !has(rule.verbs, info.verb)) return false;
  if (!info.is_resource)
    return rule.resources.empty() && rule.namespaces.empty() &&
           (rule.urls.empty() || path_matches(rule.urls, info.path));
  if (!rule.urls.empty()) return false;
  if (!rule.namespaces.empty() && !has(rule.namespaces, info.ns)) return false;
  if (rule.resources.empty()) return true;
  return std::any_of(rule.resources.begin(), rule.resources.end(), [&](const Resource& one) {
    if (one.group != info.group) return false;
    if (one.resources.empty()) return true;
    const std::string full =
        info.subresource.empty() ? info.resource : info.resource + "/" + info.subresource;
    const bool listed = std::any_of(one.resources.begin(), one.resources.end(), [&](const std::string& word) {
      return word == "*" || word == full ||
             (word.ends_with("/*") && word.substr(0, word.size() - 2) == info.resource) ||
             (word.starts_with("*/") && !info.subresource.empty() && word.substr(2) == info.subresource);
    });
    return listed && (one.names.empty() || has(one.names, info.name));
  });
}

AuditLevel AuditPolicy::level(const Identity& user, const RequestInfo& info) const {
  for (const Rule& rule : rules_) {
    if (!matches(rule, user, info)) continue;
    return is_secret(info) ? std::min(rule.level, AuditLevel::metadata) : rule.level;
  }
  return AuditLevel::none;
}

/// Passes everything on, and tells how it went.
class AuditedResponder final : public HttpResponder {
 public:
  AuditedResponder(std::shared_ptr<AuditLog> log, std::shared_ptr<AuditLog::Record> record,
                   std::shared_ptr<HttpResponder> responder)
      : log_(std::move(log)), record_(std::move(record)), responder_(std::move(responder)) {}

  void respond(int status, Headers headers, std::string body) override {
    log_->tell(*record_, "ResponseComplete", status, body);
    responder_->respond(status, std::move(headers), std::move(body));
  }
  void respond_parts(int status, Headers headers,
                     std::vector<std::shared_ptr<const std::string>> parts) override {
    log_->tell(*record_, "ResponseComplete", status, {});
    responder_->respond_parts(status, std::move(headers), std::move(parts));
  }
  std::shared_ptr<HttpBodyWriter> start(int status, Headers headers) override {
    log_->tell(*record_, "ResponseStarted", status, {});
    return responder_->start(status, std::move(headers));
  }
  std::shared_ptr<DuplexStream> upgrade(Headers headers) override {
    log_->tell(*record_, "ResponseStarted", 101, {});
    return responder_->upgrade(std::move(headers));
  }
  void on_closed(std::function<void()> call) override { responder_->on_closed(std::move(call)); }

 private:
  const std::shared_ptr<AuditLog> log_;
  const std::shared_ptr<AuditLog::Record> record_;
  const std::shared_ptr<HttpResponder> responder_;
};

std::shared_ptr<AuditLog::Record> AuditLog::begin(const HttpServerRequest& request, const RequestInfo& info) {
  auto record = std::make_shared<Record>();
  record->info = info;
  record->id = engine_.random().uuid();
  record->target = request.target;
  record->agent = request.header("user-agent");
  record->source = request.peer.address.substr(0, request.peer.address.rfind(':'));
  record->content_type = request.header("content-type");
  record->received_ns = engine_.clock().now().wall_ns;
  record->level = policy_.level({}, info);
  // Kept until it is known whether it is wanted.
  if (info.is_resource && !is_secret(info) && request.body.size() <= kBodyBytesMax)
    record->body = request.body;
  return record;
}

void AuditLog::user_known(Record& record, const Identity& user) const {
  record.user = user;
  record.level = policy_.level(user, record.info);
  if (record.level < AuditLevel::request) record.body.clear();
}

std::shared_ptr<HttpResponder> AuditLog::watch(std::shared_ptr<Record> record,
                                               std::shared_ptr<HttpResponder> responder) {
  return std::make_shared<AuditedResponder>(shared_from_this(), std::move(record), std::move(responder));
}

void AuditLog::tell(const Record& record, const char* stage, int code, const std::string& body) {
  if (record.level == AuditLevel::none) return;
  static constexpr const char* kLevels[] = {"None", "Metadata", "Request", "RequestResponse"};
  const std::int64_t now = engine_.clock().now().wall_ns;
  json::object event{{"kind", "Event"},
                     {"apiVersion", "audit.k8s.io/v1"},
                     {"level", kLevels[static_cast<std::size_t>(record.level)]},
                     {"auditID", record.id},
                     {"stage", stage},
                     {"requestURI", record.target},
                     {"verb", record.info.verb},
                     {"user", user_json(record.user)}};
  if (!record.source.empty()) event["sourceIPs"] = json::array{json::value(record.source)};
  if (!record.agent.empty()) event["userAgent"] = record.agent;
  if (record.info.is_resource) event["objectRef"] = reference_json(record.info);
  event["responseStatus"] = json::object{{"metadata", json::object()}, {"code", code}};
  const bool yaml = record.content_type.find("yaml") != std::string::npos;
  if (record.level >= AuditLevel::request) {
    if (auto object = object_in(record.body, yaml, record.info)) {
      const std::string name(api::meta_string(*object, "name"));
      if (record.info.is_resource && record.info.name.empty() && !name.empty())
        event["objectRef"].get_object()["name"] = name;
      event["requestObject"] = std::move(*object);
    }
  }
  if (record.level == AuditLevel::request_response) {
    if (auto object = object_in(body, false, record.info)) event["responseObject"] = std::move(*object);
  }
  event["requestReceivedTimestamp"] = api::format_micro_time(record.received_ns);
  event["stageTimestamp"] = api::format_micro_time(now);
  event["annotations"] = json::object{{"authorization.k8s.io/decision", code == 403 ? "forbid" : "allow"}};
  std::string text = to_json(event);
  {
    std::lock_guard lock(mutex_);
    if (queue_.size() >= queue_max_) {
      ++dropped_;
      return;
    }
    queue_.push_back(std::move(text));
    if (draining_) return;
    draining_ = true;
  }
  if (engine_.post_blocking([self = shared_from_this()] { self->drain(); })) return;
  std::lock_guard lock(mutex_);
  draining_ = false;  // the next event tries again
}

void AuditLog::drain() {
  for (;;) {
    std::string event;
    {
      std::lock_guard lock(mutex_);
      if (queue_.empty()) {
        draining_ = false;
        return;
      }
      event = std::move(queue_.front());
      queue_.pop_front();
    }
    sink_(event);
  }
}

}  // namespace orchestra::apiserver
