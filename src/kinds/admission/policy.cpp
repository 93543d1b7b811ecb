// ValidatingAdmissionPolicy: CEL expressions that judge writes.
//
// Upstream apiserver/pkg/admission/plugin/policy/validating. Policies and bindings are read from the same
// view as everything else, so a policy counts for the very next write; compiled expressions are kept by
// their text. Never asked about policies, bindings and webhook configurations themselves: a policy must not
// lock out its own removal.
#include <algorithm>

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

/// One policy with one binding and one parameter object.
class Judgement {
 public:
  Judgement(const Subject& subject, const json::value& policy, const json::value& binding,
            const json::value& request, std::uint64_t& budget)
      : subject_(subject), policy_(policy), binding_(binding), expressions_(subject, request, budget) {}

  Result<void> judge(const json::value* params) {
    if (params != nullptr) expressions_.variables()["params"] = cel::from_json(*params);
    ORC_ASSIGN(const bool wanted, conditions_hold());
    if (!wanted) return {};
    set_variables();
    const json::array* validations = array_at(policy_, "/spec/validations");
    if (validations == nullptr) return {};
    for (const json::value& validation : *validations) ORC_TRY(judge_one(validation));
    return {};
  }

 private:
  cel::Value evaluate(const std::string& text) { return expressions_.evaluate(text); }

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
      expressions_.variables()["variables"] = cel::make_map(members);
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
  WriteExpressions expressions_;
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
  if (selector == nullptr || !selector->is_object() || selector->get_object().empty()) return all;
  const auto parsed = api::selector_of(selector);
  std::erase_if(all,
                [&](const json::value& one) { return !parsed || !parsed->matches(api::labels_of(one)); });
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
        if (auto program = compiled_expression(text); !program) {
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
