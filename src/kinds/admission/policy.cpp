// ValidatingAdmissionPolicy: CEL expressions that judge writes.
//
// Upstream apiserver/pkg/admission/plugin/policy/validating. Policies and bindings are read from the same
// view as everything else, so a policy counts for the very next write; compiled expressions are kept by
// their text. Never asked about policies, bindings and webhook configurations themselves: a policy must not
// lock out its own removal.
#include <algorithm>
#include <tuple>

#include "api/cel/program.hpp"
#include "api/meta.hpp"
#include "api/select.hpp"
#include "api/status.hpp"
#include "apiserver/admission/match.hpp"
#include "apiserver/admission/plugins.hpp"

namespace orchestra::apiserver {
namespace {
constexpr const char* kGroup = "admissionregistration.k8s.io";
constexpr std::size_t kPoliciesMax = 10'000;
constexpr std::size_t kParamsMax = 1000;
constexpr std::size_t kTypesMax = 10;  // whose fields are compared with the expressions of one policy
constexpr std::size_t kAnnotationBytesMax = 10 * 1024;
constexpr const char* kFailureAnnotation = "validation.policy.admission.k8s.io/validation_failure";
namespace cel = api::cel;

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

using Subject = WriteSubject;

/// What all policies together say about one write.
struct Outcome {
  std::optional<Error> denied;                                       ///< the first refusal
  std::map<std::string, std::vector<std::string>> annotations = {};  ///< of one policy, each value once
  bool failure_noted = false;
};

std::string named(const char* what, const json::value& object) {
  return std::string(what) + " '" + std::string(api::meta_string(object, "name")) + "'";
}
bool ignores_failures(const json::value& policy) {
  return string_at(policy, "/spec/failurePolicy", "Fail") == "Ignore";
}

// `who`: the policy, and the binding where it is known.
Error denial(const Subject& subject, const std::string& who, const std::string& message,
             const std::string& reason) {
  const api::TypeRecord& type = *subject.admission.input.type;
  const int code = reason == "Unauthorized"            ? 401
                   : reason == "Forbidden"             ? 403
                   : reason == "RequestEntityTooLarge" ? 413
                                                       : 422;
  return api::status_error(
      api::make_status(code, reason,
                       type.qualified_resource() + " \"" + subject.name + "\" is forbidden: " + who +
                           " denied request: " + message,
                       {.name = subject.name, .group = type.group, .kind = type.plural}));
}

/// One policy with one binding and one parameter object.
class Judgement {
 public:
  Judgement(const Subject& subject, const json::value& policy, const json::value& binding,
            const json::value& request, std::uint64_t& budget, Outcome& outcome)
      : subject_(subject),
        policy_(policy),
        binding_(binding),
        outcome_(outcome),
        expressions_(subject, request, budget) {}

  void judge(const json::value* params) {
    if (params != nullptr) expressions_.variables()["params"] = cel::from_json(*params);
    if (!conditions_hold()) return;
    set_variables();
    if (const json::array* validations = array_at(policy_, "/spec/validations")) {
      for (std::size_t i = 0; i < validations->size(); ++i) judge_one((*validations)[i], i);
    }
    if (const json::array* annotations = array_at(policy_, "/spec/auditAnnotations")) {
      for (const json::value& one : *annotations) annotate(one);
    }
  }

  /// What the policy or the binding lacks to be asked at all.
  void unusable(const std::string& who, const std::string& why) {
    if (!ignores_failures(policy_)) deny(who, why, "Invalid");
  }

 private:
  cel::Value evaluate(const std::string& text) { return expressions_.evaluate(text); }
  std::string who() const {
    return named("ValidatingAdmissionPolicy", policy_) + named(" with binding", binding_);
  }

  bool conditions_hold() {
    const json::array* conditions = array_at(policy_, "/spec/matchConditions");
    if (conditions == nullptr) return true;
    for (const json::value& condition : *conditions) {
      const cel::Value holds = evaluate(string_at(condition, "/expression"));
      const bool* yes = holds.as<bool>();
      if (yes != nullptr && !*yes) return false;
      if (yes != nullptr) continue;
      if (ignores_failures(policy_)) return false;
      const cel::Failure* failed = holds.as<cel::Failure>();
      refuse("matchCondition '" + string_at(condition, "/name") + "' " +
                 (failed == nullptr ? "is not a boolean" : "resulted in error: " + failed->message),
             "Invalid", 0);
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
      expressions_.variables()["variables"] = cel::make_map(members);
    }
  }

  void judge_one(const json::value& validation, std::size_t index) {
    const std::string expression = string_at(validation, "/expression");
    const cel::Value answer = evaluate(expression);
    const bool* holds = answer.as<bool>();
    if (holds != nullptr && *holds) return;
    if (holds == nullptr) {
      if (ignores_failures(policy_)) return;
      const cel::Failure* failed = answer.as<cel::Failure>();
      return refuse("expression '" + expression + "' " +
                        (failed == nullptr ? "is not a boolean" : "resulted in error: " + failed->message),
                    "Invalid", index);
    }
    std::string message = string_at(validation, "/message");
    if (const std::string text = string_at(validation, "/messageExpression"); !text.empty()) {
      const cel::Value made = evaluate(text);
      if (const auto* own = made.as<std::string>(); own != nullptr && !trim(*own).empty()) message = *own;
    }
    if (message.empty()) message = "failed expression: " + expression;
    refuse(message, string_at(validation, "/reason", "Invalid"), index);
  }

  // A value for the audit event; null and empty: none.
  void annotate(const json::value& annotation) {
    const std::string expression = string_at(annotation, "/valueExpression");
    const cel::Value made = evaluate(expression);
    if (made.as<cel::Null>() != nullptr) return;
    if (const cel::Failure* failed = made.as<cel::Failure>()) {
      if (!ignores_failures(policy_))
        deny(who(), "expression '" + expression + "' resulted in error: " + failed->message, "Invalid");
      return;
    }
    const auto* text = made.as<std::string>();
    if (text == nullptr) {
      return deny(who(),
                  "valueExpression '" + expression + "' resulted in unsupported return type: " +
                      std::string(cel::type_name(made)) + ". Return type must be either string or null.",
                  "Invalid");
    }
    const std::string value(trim(*text).substr(0, kAnnotationBytesMax));
    std::vector<std::string>& values = outcome_.annotations[string_at(annotation, "/key")];
    if (!value.empty() && std::find(values.begin(), values.end(), value) == values.end())
      values.push_back(value);
  }

  // As the binding's actions say.
  void refuse(const std::string& message, const std::string& reason, std::size_t index) {
    const json::array* actions = array_at(binding_, "/spec/validationActions");
    const auto has = [&](const char* action) {
      return actions == nullptr
                 ? std::string_view(action) == "Deny"
                 : std::find(actions->begin(), actions->end(), json::value(action)) != actions->end();
    };
    if (has("Warn"))
      subject_.admission.change.warnings.push_back("Validation failed for " + who() + ": " + message);
    if (has("Audit")) note_failure(message, index);
    if (has("Deny")) deny(who(), message, reason);
  }

  // One failure in each event, as upstream: an annotation is never written over.
  void note_failure(const std::string& message, std::size_t index) {
    if (outcome_.failure_noted) return;
    outcome_.failure_noted = true;
    const json::array* actions = array_at(binding_, "/spec/validationActions");
    json::array failures{json::object{{"message", message},
                                      {"policy", api::meta_string(policy_, "name")},
                                      {"binding", api::meta_string(binding_, "name")},
                                      {"expressionIndex", index},
                                      {"validationActions", *actions}}};
    note(subject_.admission, kFailureAnnotation, to_json(failures));
  }

  void deny(const std::string& who, const std::string& message, const std::string& reason) {
    if (!outcome_.denied) outcome_.denied = denial(subject_, who, message, reason);
  }

  const Subject& subject_;
  const json::value& policy_;
  const json::value& binding_;
  Outcome& outcome_;
  WriteExpressions expressions_;
};

// The parameter objects that a binding names; nullopt: their kind is not served.
Result<std::optional<std::vector<json::value>>> params_of(const Subject& subject, const json::value& kind,
                                                          const json::value& ref) {
  const auto [group, version] = api::split_api_version(string_at(kind, "/apiVersion"));
  const api::TypePtr type =
      subject.admission.input.core->registry()->find_kind(group, version, string_at(kind, "/kind"));
  if (type == nullptr) return std::optional<std::vector<json::value>>();
  const std::string ns = type->namespaced ? string_at(ref, "/namespace", subject.ns) : std::string();
  const View& view = subject.admission.view;
  if (const std::string name = string_at(ref, "/name"); !name.empty()) {
    ORC_ASSIGN(const auto found, view.load(key_of(*type, ns, name)));
    std::vector<json::value> one;
    if (found) {
      ORC_ASSIGN(json::value tree, found->tree());
      one.push_back(std::move(tree));
    }
    return std::optional(std::move(one));
  }
  ORC_ASSIGN(auto all, objects(view, objects_range(place_of(*type), ns), kParamsMax));
  const json::value* selector = find(ref, "/selector");
  if (selector == nullptr || !selector->is_object() || selector->get_object().empty())
    return std::optional(std::move(all));
  const auto parsed = api::selector_of(selector);
  std::erase_if(all,
                [&](const json::value& one) { return !parsed || !parsed->matches(api::labels_of(one)); });
  return std::optional(std::move(all));
}

Result<void> judge_binding(const Subject& subject, const json::value& policy, const json::value& binding,
                           const json::value& request, std::uint64_t& budget, Outcome& outcome) {
  Judgement judgement(subject, policy, binding, request, budget, outcome);
  const json::value* kind = find(policy, "/spec/paramKind");
  const json::value* ref = find(binding, "/spec/paramRef");
  if (kind == nullptr || ref == nullptr) {
    judgement.judge(nullptr);
    return {};
  }
  const std::string of_policy = named("ValidatingAdmissionPolicy", policy);
  ORC_ASSIGN(const auto params, params_of(subject, *kind, *ref));
  if (!params) {
    judgement.unusable(of_policy,
                       "failed to configure policy: failed to find resource referenced by "
                       "paramKind: '" +
                           string_at(*kind, "/apiVersion") + ", Kind=" + string_at(*kind, "/kind") + "'");
  } else if (params->empty() && string_at(*ref, "/parameterNotFoundAction", "Deny") != "Allow") {
    judgement.unusable(of_policy + named(" with binding", binding),
                       "failed to configure binding: no params found for policy binding with `Deny` "
                       "parameterNotFoundAction");
  } else {
    for (const json::value& one : *params) judgement.judge(&one);
  }
  return {};
}

// PolicyName/key in the audit event; several values where parameters gave several.
void publish(const Subject& subject, const json::value& policy, const Outcome& outcome) {
  for (const auto& [key, values] : outcome.annotations) {
    std::string text;
    for (const std::string& value : values) text += (text.empty() ? "" : ", ") + value;
    if (!text.empty())
      note(subject.admission, std::string(api::meta_string(policy, "name")) + "/" + key, std::move(text));
  }
}

// The types that the rules of a policy name, without wildcards and subresources (upstream typechecking.go).
std::vector<std::pair<GroupVersionKind, api::TypePtr>> types_of(const ApiCore& core,
                                                                const json::value& policy) {
  std::map<std::tuple<std::string, std::string, std::string>, api::TypePtr> found;
  const json::array* rules = array_at(policy, "/spec/matchConstraints/resourceRules");
  const auto words = [](const json::value& rule, const char* pointer) {
    std::vector<std::string> out;
    if (const json::array* list = array_at(rule, pointer)) {
      for (const json::value& one : *list) out.emplace_back(one.is_string() ? one.get_string() : "*");
    }
    return out;
  };
  const auto open = [](const std::vector<std::string>& list) {
    return std::any_of(list.begin(), list.end(),
                       [](const std::string& word) { return word.find('*') != std::string::npos; });
  };
  for (std::size_t i = 0; rules != nullptr && i < rules->size(); ++i) {
    const auto groups = words((*rules)[i], "/apiGroups");
    const auto versions = words((*rules)[i], "/apiVersions");
    if (open(groups) || open(versions)) continue;
    for (const std::string& group : groups) {
      for (const std::string& version : versions) {
        for (const std::string& resource : words((*rules)[i], "/resources")) {
          const api::TypePtr type = core.registry()->find(group, version, resource);
          if (type == nullptr || found.size() >= kTypesMax) continue;
          found[{group, version, type->kind}] = type;
        }
      }
    }
  }
  std::vector<std::pair<GroupVersionKind, api::TypePtr>> out;
  for (const auto& [key, type] : found)
    out.emplace_back(GroupVersionKind{std::get<0>(key), std::get<1>(key), std::get<2>(key)}, type);
  return out;
}

// Fields that the types of a policy do not have: no reason to refuse it, as it may be about others too, but
// its author is told in status.typeChecking.
class TypeCheck {
 public:
  TypeCheck(const ApiCore& core, const json::value& policy)
      : policy_(policy), types_(types_of(core, policy)) {
    const auto [group, version] = api::split_api_version(string_at(policy, "/spec/paramKind/apiVersion"));
    params_ = core.registry()->find_kind(group, version, string_at(policy, "/spec/paramKind/kind"));
    if (params_ != nullptr) params_schema_ = params_->version(version)->schema;
  }

  json::array warnings() const {
    json::array out;
    const json::array* validations = array_at(policy_, "/spec/validations");
    for (std::size_t i = 0; validations != nullptr && i < validations->size(); ++i) {
      for (const char* field : {"expression", "messageExpression"}) {
        const std::string text = string_at((*validations)[i], std::string("/") + field);
        const std::string warning = text.empty() ? std::string() : check(text);
        if (warning.empty()) continue;
        out.push_back(json::object{{"fieldRef", "spec.validations[" + std::to_string(i) + "]." + field},
                                   {"warning", warning}});
      }
    }
    return out;
  }

 private:
  std::string check(const std::string& text) const {
    std::string out;
    const auto program = compiled_expression(text);
    if (!program) return out;  // refused already
    for (const auto& [kind, type] : types_) {
      const auto fine =
          cel::check_fields(program->ast(), text, variables(type->version(kind.version)->schema));
      if (fine) continue;
      out += (out.empty() ? "" : "\n") + kind.group + "/" + kind.version + ", Kind=" + kind.kind + ": " +
             fine.error().message() + "\n";
    }
    return out;
  }
  cel::KnownVariables variables(api::SchemaRef schema) const {
    cel::KnownVariables out{{"object", schema}, {"oldObject", schema}};
    if (params_schema_) out["params"] = params_schema_;
    const json::array* list = array_at(policy_, "/spec/variables");
    for (std::size_t i = 0; list != nullptr && i < list->size(); ++i) {
      const auto program = compiled_expression(string_at((*list)[i], "/expression"));
      if (program)
        out["variables." + string_at((*list)[i], "/name")] = cel::schema_of_result(program->ast(), out);
    }
    return out;
  }

  const json::value& policy_;
  const std::vector<std::pair<GroupVersionKind, api::TypePtr>> types_;
  api::TypePtr params_;  ///< null: none
  api::SchemaRef params_schema_;
};
}  // namespace

Result<void> admit_policies(Admission& admission) {
  if (admission.input.type->group == kGroup || admission.input.call->user.own || admission.input.judged)
    return {};
  ORC_ASSIGN(const auto bindings,
             objects(admission.view, objects_range({kGroup, "validatingadmissionpolicybindings"}, ""),
                     kPoliciesMax));
  if (bindings.empty()) return {};
  ORC_ASSIGN(
      const auto policies,
      objects(admission.view, objects_range({kGroup, "validatingadmissionpolicies"}, ""), kPoliciesMax));
  ORC_ASSIGN(const Subject subject, Subject::of(admission));
  const json::value request = subject.request_json();
  std::uint64_t budget = cel::kTotalBudget;
  Outcome outcome;
  for (const json::value& policy : policies) {
    if (!subject.matches(find(policy, "/spec/matchConstraints"), true)) continue;
    outcome.annotations.clear();
    for (const json::value& binding : bindings) {
      if (string_at(binding, "/spec/policyName") != api::meta_string(policy, "name")) continue;
      if (!subject.matches(find(binding, "/spec/matchResources"), false)) continue;
      ORC_TRY(judge_binding(subject, policy, binding, request, budget, outcome));
    }
    publish(subject, policy, outcome);
  }
  return outcome.denied ? Result<void>(*outcome.denied) : Result<void>();
}

// A policy whose expressions do not compile is refused, with the place. What its types say about them is in
// its status with the write itself; upstream has a controller for that.
Result<void> check_policy(Admission& admission) {
  if (!is_type(admission, kGroup, "validatingadmissionpolicies") || admission.object == nullptr) return {};
  api::FieldErrors errors;
  const api::FieldPath spec("spec");
  const bool with_params = find(*admission.object, "/spec/paramKind") != nullptr;
  const auto check = [&](const char* list, const char* field, std::vector<std::string> hidden) {
    const json::array* items = array_at(*admission.object, std::string("/spec/") + list);
    if (items == nullptr) return;
    const api::FieldPath at = spec / list;
    if (!with_params) hidden.emplace_back("params");
    for (std::size_t i = 0; i < items->size(); ++i) {
      const std::string text = string_at((*items)[i], std::string("/") + field);
      if (auto fine = check_expression(text, hidden); !fine)
        errors.invalid(at[i] / field, text, "compilation failed: " + fine.error().message());
    }
  };
  check("validations", "expression", {});
  check("validations", "messageExpression", {"authorizer"});
  check("variables", "expression", {});
  check("matchConditions", "expression", {"variables"});
  check("auditAnnotations", "valueExpression", {});
  if (!errors.empty())
    return api::invalid(kGroup, admission.input.type->kind,
                        std::string(api::meta_string(*admission.object, "name")), errors);
  const std::int64_t generation = int_at(*admission.object, "/metadata/generation");
  if (admission.old != nullptr && generation <= int_at(*admission.object, "/status/observedGeneration"))
    return {};
  json::object checking;
  if (json::array warnings = TypeCheck(*admission.input.core, *admission.object).warnings();
      !warnings.empty())
    checking["expressionWarnings"] = std::move(warnings);
  json::object status{{"observedGeneration", generation}, {"typeChecking", std::move(checking)}};
  if (const json::array* conditions = array_at(*admission.object, "/status/conditions");
      admission.old != nullptr && conditions != nullptr)
    status["conditions"] = *conditions;
  admission.object->get_object()["status"] = std::move(status);
  return {};
}

}  // namespace orchestra::apiserver
