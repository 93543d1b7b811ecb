// Audit events: see audit.hpp. Shapes, stages and matching as upstream apiserver/pkg/audit, its policy
// checker and pkg/endpoints/filters/audit.go.
#include "apiserver/audit/audit.hpp"

#include <algorithm>

#include "api/meta.hpp"
#include "api/object_tree.hpp"
#include "api/protobuf.hpp"
#include "api/status.hpp"
#include "api/walker.hpp"
#include "base/yaml.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::size_t kRulesMax = 1000;
constexpr std::string_view kProtobufMagic("k8s\0", 4);
constexpr std::size_t kBodyBytesMax = 1 << 20;     // of one object in an event
constexpr std::size_t kQueueBytesMax = 64U << 20;  // of events that wait
constexpr std::size_t kStatusBytesMax = 64 << 10;  // longer answers are no Status
constexpr std::size_t kUserAgentMax = 1024, kIdMax = 64;
constexpr std::string_view kStages[] = {"RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"};
constexpr std::string_view kLevels[] = {"None", "Metadata", "Request", "RequestResponse"};

// Kinds whose bodies hold what nobody may read in a log.
bool is_secret(const RequestInfo& info) {
  return (info.group.empty() && info.resource == "secrets") ||
         (info.group.empty() && info.resource == "serviceaccounts" && info.subresource == "token") ||
         (info.group == "authentication.k8s.io" && info.resource == "tokenreviews");
}

// Watches, and what ends when one of both sides hangs up.
bool runs_long(const RequestInfo& info) {
  static constexpr std::string_view kStreams[] = {"attach", "exec", "proxy", "log", "portforward", "tunnel"};
  if (!info.is_resource) return false;
  return info.verb == "watch" || info.verb == "proxy" ||
         std::find(std::begin(kStreams), std::end(kStreams), info.subresource) != std::end(kStreams);
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
Error bad_policy(const std::string& why) { return {Error::invalid, "audit", "audit policy: " + why}; }

// A field that nobody reads would silently tell less, or more, than its author meant.
Result<void> only_fields(const json::value& from, const std::string& where,
                         std::initializer_list<std::string_view> known) {
  if (!from.is_object()) return bad_policy(where + " is not an object");
  for (const auto& entry : from.get_object()) {
    if (std::find(known.begin(), known.end(), entry.key()) == known.end())
      return bad_policy(where + " has the unknown field \"" + std::string(entry.key()) + "\"");
  }
  return {};
}

Result<std::uint8_t> stages_at(const json::value& from, const std::string& where) {
  unsigned stages = 0;
  for (const std::string& word : words_at(from, "/omitStages")) {
    const auto found = std::find(std::begin(kStages), std::end(kStages), word);
    if (found == std::end(kStages))
      return bad_policy(where + "omitStages has \"" + word +
                        "\": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic");
    stages |= 1U << static_cast<unsigned>(found - std::begin(kStages));
  }
  return static_cast<std::uint8_t>(stages);
}

Result<bool> flag_at(const json::value& from, const char* name, const std::string& where, bool otherwise) {
  const json::value* value = find(from, std::string("/") + name);
  if (value == nullptr || value->is_null()) return otherwise;
  if (!value->is_bool()) return bad_policy(where + name + " must be true or false");
  return value->get_bool();
}

Result<void> check_urls(const std::vector<std::string>& urls, const std::string& where) {
  for (const std::string& url : urls) {
    if (url == "*") continue;
    if (!url.starts_with('/'))
      return bad_policy(where + "nonResourceURLs has \"" + url +
                        "\": non-resource URL rules must begin with a '/' character");
    if (const std::size_t star = url.find('*'); star != std::string::npos && star + 1 != url.size())
      return bad_policy(where + "nonResourceURLs has \"" + url +
                        "\": non-resource URL wildcards '*' must be the final character of the rule");
  }
  return {};
}

// Of an object, of those of a list, and of those in the rows of a Table.
void erase_managed_fields(json::value& value) {
  if (!value.is_object()) return;
  json::object& object = value.get_object();
  if (json::value* metadata = object.if_contains("metadata"); metadata != nullptr && metadata->is_object())
    metadata->get_object().erase("managedFields");
  for (const char* list : {"items", "rows"}) {
    json::value* entries = object.if_contains(list);
    if (entries == nullptr || !entries->is_array()) continue;
    for (json::value& entry : entries->get_array()) {
      erase_managed_fields(entry);
      if (!entry.is_object()) continue;
      if (json::value* of_row = entry.get_object().if_contains("object")) erase_managed_fields(*of_row);
    }
  }
}

json::value list_json(const ObjectList& list) {
  json::object metadata{{"resourceVersion", list.resource_version}};
  if (!list.continue_token.empty()) metadata["continue"] = list.continue_token;
  json::array items;
  std::size_t bytes = 0;
  for (const Object& one : list.items) {
    if ((bytes += one.json().size()) > kBodyBytesMax) return nullptr;
    items.push_back(tree(one));
  }
  std::string kind = "List", version = "v1";
  if (!list.items.empty()) {
    kind = list.items.front().kind() + "List";
    version = list.items.front().api_version();
  }
  return json::object{{"kind", kind},
                      {"apiVersion", version},
                      {"metadata", std::move(metadata)},
                      {"items", std::move(items)}};
}
}  // namespace

Result<AuditPolicy::Rule> AuditPolicy::read_rule(const json::value& from, const Rule& defaults,
                                                 const std::string& name) {
  ORC_TRY(only_fields(from, name,
                      {"level", "users", "userGroups", "verbs", "resources", "namespaces", "nonResourceURLs",
                       "omitStages", "omitManagedFields"}));
  const std::string where = name + ".";
  Rule rule = defaults;
  const std::string level = string_at(from, "/level");
  const auto known = std::find(std::begin(kLevels), std::end(kLevels), level);
  if (known == std::end(kLevels))
    return bad_policy(where + "level is \"" + level +
                      "\": it must be None, Metadata, Request or RequestResponse");
  rule.scope.level = static_cast<AuditLevel>(known - std::begin(kLevels));
  ORC_ASSIGN(const std::uint8_t omitted, stages_at(from, where));
  rule.scope.omitted |= omitted;
  ORC_ASSIGN(rule.scope.omit_managed_fields,
             flag_at(from, "omitManagedFields", where, defaults.scope.omit_managed_fields));
  rule.users = words_at(from, "/users");
  rule.groups = words_at(from, "/userGroups");
  rule.verbs = words_at(from, "/verbs");
  rule.namespaces = words_at(from, "/namespaces");
  rule.urls = words_at(from, "/nonResourceURLs");
  ORC_TRY(check_urls(rule.urls, where));
  if (const json::array* resources = array_at(from, "/resources")) {
    for (const json::value& one : *resources) {
      ORC_TRY(only_fields(one, where + "resources", {"group", "resources", "resourceNames"}));
      Resource resource{string_at(one, "/group"), words_at(one, "/resources"),
                        words_at(one, "/resourceNames")};
      if (resource.group.find('/') != std::string::npos)
        return bad_policy(where + "resources has the group \"" + resource.group +
                          "\": write it without a version");
      if (resource.resources.empty() && !resource.names.empty())
        return bad_policy(where + "resources: using resourceNames requires at least one resource");
      rule.resources.push_back(std::move(resource));
    }
  }
  if (!rule.urls.empty() && (!rule.resources.empty() || !rule.namespaces.empty()))
    return bad_policy(name + " has both nonResourceURLs and resources or namespaces");
  return rule;
}

Result<AuditPolicy> AuditPolicy::parse(const std::string& text) {
  AuditPolicy policy;
  if (text.empty()) {
    policy.rules_.emplace_back().scope.level = AuditLevel::metadata;
    return policy;
  }
  ORC_ASSIGN(const json::value tree, parse_yaml(text));
  if (string_at(tree, "/kind") != "Policy")
    return bad_policy("kind is \"" + string_at(tree, "/kind") + "\", not Policy");
  ORC_TRY(only_fields(tree, "it",
                      {"kind", "apiVersion", "metadata", "rules", "omitStages", "omitManagedFields"}));
  if (const std::string version = string_at(tree, "/apiVersion", "audit.k8s.io/v1");
      version != "audit.k8s.io/v1")
    return bad_policy("apiVersion is \"" + version + "\", not audit.k8s.io/v1");
  const json::array* rules = array_at(tree, "/rules");
  if (rules == nullptr || rules->empty())
    return bad_policy("it has no rules; write one with level: None to tell nothing");
  if (rules->size() > kRulesMax) return bad_policy("more than 1000 rules");
  Rule defaults;
  ORC_ASSIGN(defaults.scope.omitted, stages_at(tree, ""));
  ORC_ASSIGN(defaults.scope.omit_managed_fields, flag_at(tree, "omitManagedFields", "", false));
  for (std::size_t i = 0; i < rules->size(); ++i) {
    ORC_ASSIGN(Rule rule, read_rule((*rules)[i], defaults, "rules[" + std::to_string(i) + "]"));
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

AuditScope AuditPolicy::scope(const Identity& user, const RequestInfo& info) const {
  for (const Rule& rule : rules_) {
    if (!matches(rule, user, info)) continue;
    AuditScope scope = rule.scope;
    if (is_secret(info)) scope.level = std::min(scope.level, AuditLevel::metadata);
    return scope;
  }
  return {};
}

namespace {
/// Passes everything on, and tells when the body is at its end.
class AuditedWriter final : public HttpBodyWriter {
 public:
  AuditedWriter(std::shared_ptr<AuditRecord> record, std::shared_ptr<HttpBodyWriter> writer)
      : record_(std::move(record)), writer_(std::move(writer)) {}
  ~AuditedWriter() override { record_->complete(); }
  AuditedWriter(const AuditedWriter&) = delete;
  AuditedWriter& operator=(const AuditedWriter&) = delete;

  Pending<void> write(std::string bytes) override { return writer_->write(std::move(bytes)); }
  std::optional<Pending<void>> write_now(const std::shared_ptr<const std::string>& bytes) override {
    return writer_->write_now(bytes);
  }
  bool dispatch(std::shared_ptr<HttpBodyTask> task) override { return writer_->dispatch(std::move(task)); }
  void finish() override {
    record_->complete();
    writer_->finish();
  }
  void abort() override {
    record_->complete();
    writer_->abort();
  }
  void on_closed(std::function<void()> call) override { writer_->on_closed(std::move(call)); }

 private:
  const std::shared_ptr<AuditRecord> record_;
  const std::shared_ptr<HttpBodyWriter> writer_;
};

/// Passes everything on, and tells how it went.
class AuditedResponder final : public HttpResponder {
 public:
  AuditedResponder(std::shared_ptr<AuditRecord> record, std::shared_ptr<HttpResponder> responder)
      : record_(std::move(record)), responder_(std::move(responder)) {}

  ~AuditedResponder() override { record_->dropped(); }
  AuditedResponder(const AuditedResponder&) = delete;
  AuditedResponder& operator=(const AuditedResponder&) = delete;

  void respond(int status, Headers headers, std::string body) override {
    record_->answered(status, body);
    record_->started(status);
    record_->complete();
    responder_->respond(status, with_id(std::move(headers)), std::move(body));
  }
  void respond_parts(int status, Headers headers,
                     std::vector<std::shared_ptr<const std::string>> parts) override {
    record_->answered(status, {});
    record_->started(status);
    record_->complete();
    responder_->respond_parts(status, with_id(std::move(headers)), std::move(parts));
  }
  std::shared_ptr<HttpBodyWriter> start(int status, Headers headers) override {
    record_->answered(status, {});
    record_->started(status);
    auto writer = responder_->start(status, with_id(std::move(headers)));
    return std::make_shared<AuditedWriter>(record_, std::move(writer));
  }
  std::shared_ptr<DuplexStream> upgrade(Headers headers) override {
    record_->answered(101, {});
    record_->started(101);
    return audited_stream(record_, responder_->upgrade(with_id(std::move(headers))));
  }
  void on_closed(std::function<void()> call) override { responder_->on_closed(std::move(call)); }

 private:
  Headers with_id(Headers headers) const {
    headers.emplace_back("Audit-Id", record_->id());
    return headers;
  }

  const std::shared_ptr<AuditRecord> record_;
  const std::shared_ptr<HttpResponder> responder_;
};
}  // namespace

AuditRecord::AuditRecord(std::shared_ptr<AuditLog> log, RequestInfo info, AuditOrigin origin)
    : log_(std::move(log)),
      info_(std::move(info)),
      origin_(std::move(origin)),
      long_running_(runs_long(info_)),
      received_ns_(log_->engine_.clock().now().wall_ns) {
  const bool plain =
      std::all_of(origin_.id.begin(), origin_.id.end(), [](char c) { return c > ' ' && c <= '~'; });
  if (origin_.id.empty() || !plain) origin_.id = log_->engine_.random().uuid();
  origin_.id.resize(std::min(origin_.id.size(), kIdMax));
  if (origin_.user_agent.size() > kUserAgentMax)
    origin_.user_agent = origin_.user_agent.substr(0, kUserAgentMax) + "...TRUNCATED";
  if (info_.is_resource) reference_ = reference_json(info_);
}

// Whoever is impersonated, it is the one behind that the policy looks at.
void AuditRecord::decide(const Identity& user) {
  user_ = user;
  scope_ = log_->policy_.scope(user.behind == nullptr ? user : *user.behind, info_);
}

void AuditRecord::received(const Identity& user) {
  decide(user);
  if (scope_.level == AuditLevel::none) return;
  notes_ = std::make_shared<AuditNotes>();
  tell(AuditStage::request_received);
}

void AuditRecord::refused() { decide({}); }

void AuditRecord::request(const std::string& body, const std::string& content_type, const Object& object) {
  if (scope_.level < AuditLevel::request || !info_.is_resource) return;
  if (object) {
    if (object.json().size() <= kBodyBytesMax) request_ = tree(object);
  } else if (auto read = object_in(body, content_type.find("yaml") != std::string::npos, info_)) {
    request_ = std::move(*read);
  }
  if (!request_.is_object()) return;
  for (const char* field : {"namespace", "name", "uid", "resourceVersion"}) {
    const std::string value(api::meta_string(request_, field));
    if (!value.empty() && !reference_.contains(field)) reference_[field] = value;
  }
  if (scope_.omit_managed_fields) erase_managed_fields(request_);
}

// Refusals of Secrets keep their text for themselves where it may quote the body.
void AuditRecord::take_status(const std::string& body) {
  if (body.size() > kStatusBytesMax || !body.starts_with(R"({"kind":"Status")")) return;
  const auto parsed = parse_json(body);
  if (!parsed || !parsed->is_object()) return;
  const bool quotes = is_secret(info_) && (code_ == 400 || code_ == 422);
  for (const char* field : {"status", "message", "reason", "details"}) {
    const std::string_view name = field;
    if (quotes && (name == "message" || name == "details")) continue;
    if (const json::value* value = find(*parsed, std::string("/") + field)) status_[field] = *value;
  }
}

void AuditRecord::answered(int code, const std::string& body) {
  if (scope_.level == AuditLevel::none || code_ != 0) return;
  code_ = code;
  take_status(body);
  if (!wants_response()) return;
  if (auto read = object_in(body, false, info_)) response_ = std::move(*read);
}

void AuditRecord::answered(Reply& reply) {
  if (scope_.level == AuditLevel::none || code_ != 0) return;
  if (!reply.object && !reply.list && !reply.more) return answered(reply.code, reply.body);
  code_ = reply.code;
  if (!wants_response()) return;
  if (reply.object && reply.object.json().size() <= kBodyBytesMax) response_ = tree(reply.object);
  if (reply.list) response_ = list_json(*reply.list);
  if (!reply.more) return;
  reply.more = [self = shared_from_this(), more = std::move(reply.more)]() -> std::optional<std::string> {
    auto piece = more();
    if (piece && self->pieces_.size() <= kBodyBytesMax) self->pieces_ += *piece;
    return piece;
  };
}

void AuditRecord::dropped() {
  if (code_ != 0) return;
  answered(500, {});
  started(500);
  complete();
}

void AuditRecord::started(int code) {
  if (code_ == 0) code_ = code;
  if (long_running_ && !started_.exchange(true)) tell(AuditStage::response_started);
}

void AuditRecord::complete() {
  if (completed_.exchange(true)) return;
  if (code_ == 0 && long_running_) started(200);
  if (!pieces_.empty()) {
    if (auto read = object_in(pieces_, false, info_)) response_ = std::move(*read);
  }
  tell(AuditStage::response_complete);
}

void AuditRecord::tell(AuditStage stage) {
  if (!scope_.tells(stage)) return;
  const bool received = stage == AuditStage::request_received;
  const std::int64_t now = received ? received_ns_ : log_->engine_.clock().now().wall_ns;
  const Identity& asks = user_.behind == nullptr ? user_ : *user_.behind;
  json::object event{{"kind", "Event"},
                     {"apiVersion", "audit.k8s.io/v1"},
                     {"level", kLevels[static_cast<std::size_t>(scope_.level)]},
                     {"auditID", origin_.id},
                     {"stage", kStages[static_cast<std::size_t>(stage)]},
                     {"requestURI", origin_.target},
                     {"verb", info_.verb},
                     {"user", user_json(asks)}};
  if (user_.behind != nullptr) event["impersonatedUser"] = user_json(user_);
  if (!origin_.source.empty()) event["sourceIPs"] = json::array{json::value(origin_.source)};
  if (!origin_.user_agent.empty()) event["userAgent"] = origin_.user_agent;
  if (info_.is_resource) event["objectRef"] = received ? reference_json(info_) : reference_;
  if (!received) {
    json::object status{{"metadata", json::object()}};
    for (const auto& entry : status_) status[entry.key()] = entry.value();
    status["code"] = code_ == 0 ? 200 : code_;
    event["responseStatus"] = std::move(status);
    if (!request_.is_null()) event["requestObject"] = request_;
    if (stage == AuditStage::response_complete && !response_.is_null()) {
      if (scope_.omit_managed_fields) erase_managed_fields(response_);
      event["responseObject"] = std::move(response_);
    }
  }
  event["requestReceivedTimestamp"] = api::format_micro_time(received_ns_);
  event["stageTimestamp"] = api::format_micro_time(now);
  if (!received && notes_ != nullptr) {
    json::object annotations;
    for (const auto* notes : {&notes_->authorization, &notes_->admission}) {
      for (const auto& [key, value] : *notes) annotations[key] = value;
    }
    event["annotations"] = std::move(annotations);
  }
  log_->offer(to_json(event));
}

std::shared_ptr<AuditRecord> AuditLog::begin(RequestInfo info, AuditOrigin origin) {
  return std::make_shared<AuditRecord>(shared_from_this(), std::move(info), std::move(origin));
}

std::shared_ptr<HttpResponder> AuditLog::watch(std::shared_ptr<AuditRecord> record,
                                               std::shared_ptr<HttpResponder> responder) {
  return std::make_shared<AuditedResponder>(std::move(record), std::move(responder));
}

void AuditLog::offer(std::string event) {
  {
    std::lock_guard lock(mutex_);
    if (queue_.size() >= queue_max_ || queue_bytes_ + event.size() > kQueueBytesMax) {
      ++dropped_;
      return;
    }
    queue_bytes_ += event.size();
    queue_.push_back(std::move(event));
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
      queue_bytes_ -= event.size();
    }
    sink_(event);
  }
}

}  // namespace orchestra::apiserver
