// Which writes rules are about: see match.hpp. Upstream apiserver/pkg/admission/plugin/webhook/predicates.
#include "apiserver/admission/match.hpp"

#include <algorithm>
#include <mutex>
#include <unordered_map>

#include "api/meta.hpp"
#include "api/select.hpp"
#include "apiserver/admission/plugins.hpp"
#include "apiserver/auth/access.hpp"

namespace orchestra::apiserver {
namespace {
namespace cel = api::cel;

const std::vector<std::string>& expression_roots() {
  static const std::vector<std::string> kRoots = {"object",          "oldObject", "request",   "params",
                                                  "namespaceObject", "variables", "authorizer"};
  return kRoots;
}

const char* operation_of(const Admission& admission) {
  if (admission.connects) return "CONNECT";
  return admission.object == nullptr ? "DELETE" : admission.old == nullptr ? "CREATE" : "UPDATE";
}

bool word_listed(const json::value& rule, const char* pointer, const std::string& word, bool absent) {
  const json::array* list = array_at(rule, pointer);
  if (list == nullptr || list->empty()) return absent;
  return std::any_of(list->begin(), list->end(),
                     [&](const json::value& one) { return one == "*" || one == json::value(word); });
}

bool resource_listed(const json::value& rule, const std::string& resource, const std::string& sub) {
  const json::array* list = array_at(rule, "/resources");
  if (list == nullptr) return false;
  const std::string full = sub.empty() ? resource : resource + "/" + sub;
  return std::any_of(list->begin(), list->end(), [&](const json::value& one) {
    if (!one.is_string()) return false;
    const std::string_view own = one.get_string();
    return own == "*/*" || own == full || (sub.empty() && own == "*") || own == resource + "/*" ||
           (!sub.empty() && own == "*/" + sub);
  });
}

bool selects(const json::value* selector, const json::value* object) {
  if (selector == nullptr || !selector->is_object() || selector->get_object().empty()) return true;
  auto parsed = api::selector_of(selector);
  return parsed && object != nullptr && parsed->matches(api::labels_of(*object));
}
}  // namespace

Result<cel::Program> compiled_expression(const std::string& text) {
  static std::mutex mutex;
  static std::unordered_map<std::string, cel::Program> cache;
  {
    std::lock_guard lock(mutex);
    if (const auto found = cache.find(text); found != cache.end()) return found->second;
  }
  ORC_ASSIGN(cel::Program program, cel::Program::compile(text, expression_roots()));
  std::lock_guard lock(mutex);
  if (cache.size() >= kCompiledMax) cache.clear();
  cache.emplace(text, program);
  return program;
}

Result<void> check_expression(const std::string& text, const std::vector<std::string>& hidden) {
  if (trim(text).empty()) return {};
  std::vector<std::string> roots;
  for (const std::string& root : expression_roots()) {
    if (std::find(hidden.begin(), hidden.end(), root) == hidden.end()) roots.push_back(root);
  }
  auto program = cel::Program::compile(text, roots);
  return program ? Result<void>() : Result<void>(program.error());
}

Result<WriteSubject> WriteSubject::of(Admission& admission) {
  show_managers(admission);
  const json::value& judged = admission.object != nullptr ? *admission.object : *admission.old;
  const api::TypeRecord& type = *admission.input.type;
  WriteSubject subject{
      admission,
      admission.document ? admission.input.name() : std::string(api::meta_string(judged, "name")),
      admission.input.ns(),
      type.plural,
      admission.input.sub == nullptr ? std::string() : admission.input.sub->name,
      type.group,
      admission.input.call->info.version,
      operation_of(admission),
      std::nullopt};
  if (type.namespaced) {
    ORC_ASSIGN(const auto ns, admission.view.load(object_key({"", "namespaces"}, "", subject.ns)));
    if (ns) {
      ORC_ASSIGN(subject.ns_object, ns->tree());
    }
  }
  return subject;
}

bool WriteSubject::rule_matches(const json::value& rule, const std::string& in_version) const {
  const std::string scope = string_at(rule, "/scope", "*");
  if (scope != "*" && (scope == "Namespaced") != admission.input.type->namespaced) return false;
  return word_listed(rule, "/operations", operation, false) &&
         word_listed(rule, "/apiGroups", group, false) &&
         word_listed(rule, "/apiVersions", in_version, false) && resource_listed(rule, resource, sub) &&
         word_listed(rule, "/resourceNames", name, true);
}

bool WriteSubject::any_rule(const json::value& parent, const char* pointer) const {
  const json::array* rules = array_at(parent, pointer);
  return rules != nullptr && std::any_of(rules->begin(), rules->end(), [&](const json::value& rule) {
           return rule_matches(rule, version);
         });
}

bool WriteSubject::selectors_match(const json::value& parent) const {
  const bool is_namespace = is_type(admission, "", "namespaces");
  const json::value* judged = admission.object != nullptr ? admission.object : admission.old;
  const json::value* holder = is_namespace ? judged : ns_object ? &*ns_object : nullptr;
  // Cluster-scoped objects are never excluded by a namespace selector.
  if (holder != nullptr && !selects(find(parent, "/namespaceSelector"), holder)) return false;
  const json::value* selector = find(parent, "/objectSelector");
  return selects(selector, admission.object) ||
         (admission.old != nullptr && selects(selector, admission.old));
}

bool WriteSubject::matches(const json::value* constraints, bool rules_needed) const {
  if (constraints == nullptr) return !rules_needed;
  if (any_rule(*constraints, "/excludeResourceRules")) return false;
  const json::array* rules = array_at(*constraints, "/resourceRules");
  const bool has_rules = rules != nullptr && !rules->empty();
  if ((has_rules || rules_needed) && !any_rule(*constraints, "/resourceRules")) return false;
  return selectors_match(*constraints);
}

json::value WriteSubject::request_json() const {
  const Identity& user = admission.input.call->user;
  json::array groups;
  for (const std::string& one : user.groups) groups.push_back(json::value(one));
  const api::TypeRecord& type = *admission.input.type;
  const GroupVersionKind own = admission.document ? admission.input.sub->kind : type.gvk(version);
  const json::object kind{{"group", own.group}, {"version", own.version}, {"kind", own.kind}};
  const json::object place{{"group", type.group}, {"version", version}, {"resource", type.plural}};
  json::object info{{"username", user.user}, {"uid", user.uid}, {"groups", std::move(groups)}};
  if (!user.extra.empty()) {
    json::object extra;
    for (const auto& [key, values] : user.extra) {
      json::array list;
      for (const std::string& value : values) list.push_back(json::value(value));
      extra[key] = std::move(list);
    }
    info["extra"] = std::move(extra);
  }
  return json::object{{"kind", kind},
                      {"resource", place},
                      {"subResource", sub},
                      {"requestKind", kind},
                      {"requestResource", place},
                      {"requestSubResource", sub},
                      {"name", name},
                      {"namespace", ns},
                      {"operation", operation},
                      {"userInfo", std::move(info)},
                      {"dryRun", admission.input.dry_run}};
}

WriteExpressions::WriteExpressions(const WriteSubject& subject, const json::value& request,
                                   std::uint64_t& budget)
    : subject_(subject), budget_(budget) {
  const Admission& admission = subject.admission;
  const api::TypeVersion* version = admission.input.type->version(subject.version);
  const bool typed = version != nullptr && !admission.document;
  const api::SchemaRef schema = typed ? version->schema : api::SchemaRef();
  const auto shown = [&](const json::value* tree) {
    return tree == nullptr ? cel::Value(cel::Null{}) : cel::from_json(*tree, schema);
  };
  variables_["object"] = shown(admission.object);
  variables_["oldObject"] = shown(admission.old);
  variables_["request"] = cel::from_json(request);
  variables_["namespaceObject"] =
      subject.ns_object ? cel::from_json(*subject.ns_object) : cel::Value(cel::Null{});
  variables_["params"] = cel::Null{};
  variables_["variables"] = cel::make_map({});
  cel::AccessQuery own;
  own.stage = cel::AccessQuery::Stage::authorizer;
  variables_["authorizer"] = own;
}

cel::Value WriteExpressions::evaluate(const std::string& text) {
  auto program = compiled_expression(text);
  if (!program) return cel::failure("compilation error: " + program.error().message());
  cel::Context context;
  context.budget = std::min(cel::kCallBudget, budget_);
  const ApiCore& core = *subject_.admission.input.core;
  const Identity& user = subject_.admission.input.call->user;
  context.authorize = [&](const cel::AccessQuery& query) {
    RequestInfo info;
    info.is_resource = query.path.empty();
    info.path = query.path;
    info.verb = query.verb;
    info.group = query.group;
    info.resource = query.resource;
    info.subresource = query.subresource;
    info.ns = query.ns;
    info.name = query.name;
    const Identity asked = query.user_name.empty()
                               ? user
                               : Identity{"system:serviceaccount:" + query.user_ns + ":" + query.user_name,
                                          "",
                                          {"system:serviceaccounts",
                                           "system:serviceaccounts:" + query.user_ns, "system:authenticated"},
                                          {}};
    const AccessDecision decision = core.access().decide(asked, info);
    return std::pair(decision.allowed, decision.reason);
  };
  context.request.stage = cel::AccessQuery::Stage::resource;
  context.request.group = subject_.group;
  context.request.resource = subject_.resource;
  context.request.subresource = subject_.sub;
  context.request.ns = subject_.ns;
  context.request.name = subject_.name;
  cel::Value out = program->evaluate(variables_, context);
  budget_ -= std::min(budget_, context.cost);
  return out;
}

}  // namespace orchestra::apiserver
