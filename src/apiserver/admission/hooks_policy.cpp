// ValidatingAdmissionPolicy: CEL expressions that judge writes.
//
// Upstream apiserver/pkg/admission/plugin/policy/validating. Policies and bindings are read from the same
// view as everything else, so a policy counts for the very next write; compiled expressions are kept by
// their text. Never asked about policies, bindings and webhook configurations themselves: a policy must not
// lock out its own removal.
#include <algorithm>
#include <mutex>
#include <unordered_map>

#include "api/cel/program.hpp"
#include "api/meta.hpp"
#include "api/select.hpp"
#include "api/status.hpp"
#include "apiserver/admission/plugins.hpp"
#include "apiserver/auth/access.hpp"

namespace orchestra::apiserver {
namespace {
constexpr const char* kGroup = "admissionregistration.k8s.io";
constexpr std::size_t kPoliciesMax = 10'000;
constexpr std::size_t kParamsMax = 1000;
constexpr std::size_t kCompiledMax = 4096;
namespace cel = api::cel;

const std::vector<std::string>& roots() {
  static const std::vector<std::string> kRoots = {"object",          "oldObject", "request",   "params",
                                                  "namespaceObject", "variables", "authorizer"};
  return kRoots;
}

Result<cel::Program> compiled(const std::string& text) {
  static std::mutex mutex;
  static std::unordered_map<std::string, cel::Program> cache;
  {
    std::lock_guard lock(mutex);
    if (const auto found = cache.find(text); found != cache.end()) return found->second;
  }
  ORC_ASSIGN(cel::Program program, cel::Program::compile(text, roots()));
  std::lock_guard lock(mutex);
  if (cache.size() >= kCompiledMax) cache.clear();
  cache.emplace(text, program);
  return program;
}

Result<std::vector<json::value>> objects(const View& view, const KeyRange& range, std::size_t limit) {
  ORC_ASSIGN(const auto found, view.range(range, limit));
  std::vector<json::value> out;
  for (const KeyValue& kv : found) {
    ORC_ASSIGN(const StoredView stored, decode_stored_frame(kv.value.bytes()));
    ORC_ASSIGN(json::value tree, parse_json(json_with_revision(stored, kv.mod_revision)));
    out.push_back(std::move(tree));
  }
  return out;
}

const char* operation_of(const Admission& admission) {
  return admission.object == nullptr ? "DELETE" : admission.old == nullptr ? "CREATE" : "UPDATE";
}

bool listed(const json::value& rule, const char* pointer, const std::string& word, bool absent) {
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

/// What the rules of a policy or a binding are matched against, made once per write.
struct Subject {
  Admission& admission;
  std::string name, ns, resource, sub, group, version, operation;
  std::optional<json::value> ns_object;

  bool rule_matches(const json::value& rule) const {
    return listed(rule, "/operations", operation, false) && listed(rule, "/apiGroups", group, false) &&
           listed(rule, "/apiVersions", version, false) && resource_listed(rule, resource, sub) &&
           listed(rule, "/resourceNames", name, true);
  }
  bool any_rule(const json::value& constraints, const char* pointer) const {
    const json::array* rules = array_at(constraints, pointer);
    return rules != nullptr && std::any_of(rules->begin(), rules->end(),
                                           [&](const json::value& rule) { return rule_matches(rule); });
  }
  static bool selects(const json::value* selector, const json::value* object) {
    if (selector == nullptr || !selector->is_object() || selector->get_object().empty()) return true;
    auto parsed = api::selector_of(selector);
    return parsed && object != nullptr && parsed->matches(api::labels_of(*object));
  }
  bool matches(const json::value* constraints, bool rules_needed) const {
    if (constraints == nullptr) return !rules_needed;
    if (any_rule(*constraints, "/excludeResourceRules")) return false;
    const json::array* rules = array_at(*constraints, "/resourceRules");
    const bool has_rules = rules != nullptr && !rules->empty();
    if ((has_rules || rules_needed) && !any_rule(*constraints, "/resourceRules")) return false;
    const bool is_namespace = is_type(admission, "", "namespaces");
    const json::value* judged = admission.object != nullptr ? admission.object : admission.old;
    const json::value* holder = is_namespace ? judged : ns_object ? &*ns_object : nullptr;
    // Cluster-scoped objects are never excluded by a namespace selector.
    if (holder != nullptr && !selects(find(*constraints, "/namespaceSelector"), holder)) return false;
    const json::value* selector = find(*constraints, "/objectSelector");
    return selects(selector, admission.object) ||
           (admission.old != nullptr && selects(selector, admission.old));
  }
};

json::value request_json(const Subject& subject) {
  const Identity& user = subject.admission.input.call->user;
  json::array groups;
  for (const std::string& group : user.groups) groups.push_back(json::value(group));
  const api::TypeRecord& type = *subject.admission.input.type;
  const json::object kind{{"group", type.group}, {"version", subject.version}, {"kind", type.kind}};
  const json::object resource{{"group", type.group}, {"version", subject.version}, {"resource", type.plural}};
  return json::object{
      {"kind", kind},
      {"resource", resource},
      {"subResource", subject.sub},
      {"requestKind", kind},
      {"requestResource", resource},
      {"requestSubResource", subject.sub},
      {"name", subject.name},
      {"namespace", subject.ns},
      {"operation", subject.operation},
      {"userInfo", json::object{{"username", user.user}, {"uid", user.uid}, {"groups", std::move(groups)}}},
      {"dryRun", subject.admission.input.dry_run}};
}

/// One policy with one binding and one parameter object.
class Judgement {
 public:
  Judgement(const Subject& subject, const json::value& policy, const json::value& binding,
            const json::value& request, std::uint64_t& budget)
      : subject_(subject), policy_(policy), binding_(binding), budget_(budget) {
    const Admission& admission = subject.admission;
    const api::TypeVersion* version = admission.input.type->version(subject.version);
    const api::SchemaRef schema = version == nullptr ? api::SchemaRef() : version->schema;
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

  Result<void> judge(const json::value* params) {
    if (params != nullptr) variables_["params"] = cel::from_json(*params);
    ORC_ASSIGN(const bool wanted, conditions_hold());
    if (!wanted) return {};
    set_variables();
    const json::array* validations = array_at(policy_, "/spec/validations");
    if (validations == nullptr) return {};
    for (const json::value& validation : *validations) ORC_TRY(judge_one(validation));
    return {};
  }

 private:
  cel::Value evaluate(const std::string& text) {
    auto program = compiled(text);
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
      const Identity asked =
          query.user_name.empty()
              ? user
              : Identity{"system:serviceaccount:" + query.user_ns + ":" + query.user_name,
                         "",
                         {"system:serviceaccounts", "system:serviceaccounts:" + query.user_ns,
                          "system:authenticated"},
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

  bool ignores_failures() const { return string_at(policy_, "/spec/failurePolicy", "Fail") == "Ignore"; }

  Result<bool> conditions_hold() {
    const json::array* conditions = array_at(policy_, "/spec/matchConditions");
    if (conditions == nullptr) return true;
    for (const json::value& condition : *conditions) {
      const cel::Value holds = evaluate(string_at(condition, "/expression"));
      const bool* yes = holds.as<bool>();
      if (yes != nullptr && !*yes) return false;
      if (yes != nullptr) continue;
      if (ignores_failures()) return false;
      const cel::Failure* failed = holds.as<cel::Failure>();
      ORC_TRY(refuse("matchCondition '" + string_at(condition, "/name") + "' " +
                         (failed == nullptr ? "is not a boolean" : "resulted in error: " + failed->message),
                     "Invalid"));
      return false;
    }
    return true;
  }

  // In order; one that fails is an error only where it is used.
  void set_variables() {
    const json::array* list = array_at(policy_, "/spec/variables");
    if (list == nullptr) return;
    std::vector<std::pair<cel::Value, cel::Value>> members;
    for (const json::value& one : *list) {
      members.emplace_back(cel::Value(string_at(one, "/name")), evaluate(string_at(one, "/expression")));
      variables_["variables"] = cel::make_map(members);
    }
  }

  Result<void> judge_one(const json::value& validation) {
    const std::string expression = string_at(validation, "/expression");
    const cel::Value answer = evaluate(expression);
    const bool* holds = answer.as<bool>();
    if (holds != nullptr && *holds) return {};
    const std::string reason = string_at(validation, "/reason", "Invalid");
    if (holds == nullptr) {
      if (ignores_failures()) return {};
      const cel::Failure* failed = answer.as<cel::Failure>();
      return refuse("expression '" + expression + "' " +
                        (failed == nullptr ? "is not a boolean" : "resulted in error: " + failed->message),
                    "Invalid");
    }
    std::string message = string_at(validation, "/message");
    if (const std::string text = string_at(validation, "/messageExpression"); !text.empty()) {
      const cel::Value made = evaluate(text);
      if (const auto* own = made.as<std::string>(); own != nullptr && !trim(*own).empty()) message = *own;
    }
    if (message.empty()) message = "failed expression: " + expression;
    return refuse(message, reason);
  }

  // As the binding's actions say.
  Result<void> refuse(const std::string& message, const std::string& reason) {
    const std::string who = "ValidatingAdmissionPolicy '" + std::string(api::meta_string(policy_, "name")) +
                            "' with binding '" + std::string(api::meta_string(binding_, "name")) + "'";
    const json::array* actions = array_at(binding_, "/spec/validationActions");
    const auto has = [&](const char* action) {
      return actions == nullptr
                 ? std::string_view(action) == "Deny"
                 : std::find(actions->begin(), actions->end(), json::value(action)) != actions->end();
    };
    if (has("Warn")) {
      subject_.admission.change.warnings.push_back("Validation failed for " + who + ": " + message);
    }
    if (!has("Deny")) return {};
    const api::TypeRecord& type = *subject_.admission.input.type;
    const int code = reason == "Unauthorized"            ? 401
                     : reason == "Forbidden"             ? 403
                     : reason == "RequestEntityTooLarge" ? 413
                                                         : 422;
    return api::status_error(
        api::make_status(code, reason,
                         type.qualified_resource() + " \"" + subject_.name + "\" is forbidden: " + who +
                             " denied request: " + message,
                         {.name = subject_.name, .group = type.group, .kind = type.plural}));
  }

  const Subject& subject_;
  const json::value& policy_;
  const json::value& binding_;
  std::uint64_t& budget_;
  cel::Program::Variables variables_;
};

// The parameter objects that a binding names; nullopt in front: none was found.
Result<std::vector<json::value>> params_of(const Subject& subject, const json::value& kind,
                                           const json::value& ref) {
  const auto [group, version] = api::split_api_version(string_at(kind, "/apiVersion"));
  const api::TypePtr type =
      subject.admission.input.core->registry()->find_kind(group, version, string_at(kind, "/kind"));
  if (type == nullptr) {
    return deny(subject.admission, "failed to find resource referenced by paramKind: '" +
                                       string_at(kind, "/apiVersion") + ", Kind=" + string_at(kind, "/kind") +
                                       "'");
  }
  const std::string ns = type->namespaced ? string_at(ref, "/namespace", subject.ns) : std::string();
  const View& view = subject.admission.view;
  if (const std::string name = string_at(ref, "/name"); !name.empty()) {
    ORC_ASSIGN(const auto found, view.load(key_of(*type, ns, name)));
    if (!found) return std::vector<json::value>();
    ORC_ASSIGN(json::value tree, found->tree());
    return std::vector<json::value>{std::move(tree)};
  }
  ORC_ASSIGN(auto all, objects(view, objects_range(place_of(*type), ns), kParamsMax));
  const json::value* selector = find(ref, "/selector");
  std::erase_if(all, [&](const json::value& one) { return !Subject::selects(selector, &one); });
  return all;
}

Result<void> judge_binding(const Subject& subject, const json::value& policy, const json::value& binding,
                           const json::value& request, std::uint64_t& budget) {
  Judgement judgement(subject, policy, binding, request, budget);
  const json::value* kind = find(policy, "/spec/paramKind");
  const json::value* ref = find(binding, "/spec/paramRef");
  if (kind == nullptr || ref == nullptr) return judgement.judge(nullptr);
  ORC_ASSIGN(const auto params, params_of(subject, *kind, *ref));
  if (params.empty()) {
    if (string_at(*ref, "/parameterNotFoundAction", "Deny") == "Allow") return {};
    return deny(subject.admission,
                "policy '" + std::string(api::meta_string(policy, "name")) + "' with binding '" +
                    std::string(api::meta_string(binding, "name")) +
                    "': no params found for policy binding with `Deny` parameterNotFoundAction");
  }
  for (const json::value& one : params) ORC_TRY(judgement.judge(&one));
  return {};
}
}  // namespace

Result<void> admit_policies(Admission& admission) {
  if (admission.input.type->group == kGroup) return {};
  ORC_ASSIGN(const auto bindings,
             objects(admission.view, objects_range({kGroup, "validatingadmissionpolicybindings"}, ""),
                     kPoliciesMax));
  if (bindings.empty()) return {};
  ORC_ASSIGN(
      const auto policies,
      objects(admission.view, objects_range({kGroup, "validatingadmissionpolicies"}, ""), kPoliciesMax));
  const json::value& judged = admission.object != nullptr ? *admission.object : *admission.old;
  Subject subject{admission,
                  std::string(api::meta_string(judged, "name")),
                  admission.input.ns(),
                  admission.input.type->plural,
                  admission.input.sub == nullptr ? std::string() : admission.input.sub->name,
                  admission.input.type->group,
                  admission.input.call->info.version,
                  operation_of(admission),
                  std::nullopt};
  if (admission.input.type->namespaced) {
    ORC_ASSIGN(const auto ns, admission.view.load(object_key({"", "namespaces"}, "", subject.ns)));
    if (ns) {
      ORC_ASSIGN(subject.ns_object, ns->tree());
    }
  }
  const json::value request = request_json(subject);
  std::uint64_t budget = cel::kTotalBudget;
  for (const json::value& policy : policies) {
    if (!subject.matches(find(policy, "/spec/matchConstraints"), true)) continue;
    for (const json::value& binding : bindings) {
      if (string_at(binding, "/spec/policyName") != api::meta_string(policy, "name")) continue;
      if (!subject.matches(find(binding, "/spec/matchResources"), false)) continue;
      ORC_TRY(judge_binding(subject, policy, binding, request, budget));
    }
  }
  return {};
}

// A policy whose expressions do not compile is refused, with the place.
Result<void> check_policy(Admission& admission) {
  if (!is_type(admission, kGroup, "validatingadmissionpolicies") || admission.object == nullptr) return {};
  api::FieldErrors errors;
  const api::FieldPath spec("spec");
  const auto check = [&](const char* list, std::initializer_list<const char*> fields) {
    const json::array* items = array_at(*admission.object, std::string("/spec/") + list);
    if (items == nullptr) return;
    const api::FieldPath at = spec / list;
    for (std::size_t i = 0; i < items->size(); ++i) {
      for (const char* field : fields) {
        const std::string text = string_at((*items)[i], std::string("/") + field);
        if (text.empty()) continue;
        if (auto program = compiled(text); !program) {
          errors.invalid(at[i] / field, text, "compilation failed: " + program.error().message());
        }
      }
    }
  };
  check("validations", {"expression", "messageExpression"});
  check("variables", {"expression"});
  check("matchConditions", {"expression"});
  check("auditAnnotations", {"valueExpression"});
  if (errors.empty()) return {};
  return api::invalid(kGroup, admission.input.type->kind,
                      std::string(api::meta_string(*admission.object, "name")), errors);
}

}  // namespace orchestra::apiserver
