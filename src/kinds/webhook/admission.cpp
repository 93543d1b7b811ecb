// Admission webhooks (admission.k8s.io/v1): others change and judge writes.
//
// Upstream apiserver/pkg/admission/plugin/webhook. Mutating ones run after our own plug-ins, one after the
// other by configuration name and order, each on what the one before left; the result is pruned and completed
// by the schema again. One that asks for it is called once more if the object changed after it. Validating
// ones are all asked at once, about what is going to be stored. Nothing is asked about the configurations
// themselves, so a broken webhook can always be removed.
#include <algorithm>

#include "api/meta.hpp"
#include "api/patches.hpp"
#include "api/status.hpp"
#include "api/versions.hpp"
#include "api/walker.hpp"
#include "apiserver/admission/match.hpp"
#include "apiserver/admission/plugins.hpp"
#include "apiserver/webhook/webhook.hpp"
#include "base/base64.hpp"

namespace orchestra::apiserver {
namespace {
namespace cel = api::cel;
constexpr const char* kConfigurations = "admissionregistration.k8s.io";

std::string quoted_name(const Webhook& hook) { return "\"" + hook.name + "\""; }

Error call_failed(const Webhook& hook, const std::string& why) {
  return api::internal_error("failed calling webhook " + quoted_name(hook) + ": " + why);
}

/// One question that has to be asked.
struct Question {
  WebhookPtr hook;
  std::string version;  ///< of the object that is sent
  std::string uid, review_version;
  WebhookTarget target;
};

class Round {
 public:
  Round(Admission& admission, const WriteSubject& subject)
      : admission_(admission), subject_(subject), request_(subject.request_json()) {}

  /// nullopt: this webhook is not about this write, or cannot be reached and may be left out.
  Result<std::optional<Question>> question(const WebhookPtr& hook) {
    const std::string version = version_for(*hook);
    if (version.empty() || !subject_.selectors_match(hook->spec)) return std::optional<Question>();
    ORC_ASSIGN(const bool wanted, conditions_hold(*hook));
    if (!wanted) return std::optional<Question>();
    if (admission_.input.dry_run && !spares_dry_runs(*hook)) {
      return api::bad_request("admission webhook " + quoted_name(*hook) + " does not support dry run");
    }
    Question asked;
    asked.hook = hook;
    asked.version = version;
    asked.uid = admission_.input.core->engine().random().uuid();
    asked.review_version = review_version(*hook);
    if (asked.review_version.empty())
      return unreachable(*hook, "it accepts none of the review versions v1, v1beta1");
    const json::value* config = find(hook->spec, "/clientConfig");
    auto target = config == nullptr
                      ? Result<WebhookTarget>(Error(Error::invalid, "webhook", "no clientConfig"))
                      : webhook_target(*config, admission_.view);
    if (!target) return unreachable(*hook, target.error().message());
    asked.target = std::move(*target);
    return std::optional(std::move(asked));
  }

  Result<json::value> review(const Question& question) const {
    const api::TypeRecord& type = *admission_.input.type;
    json::value request = request_;
    json::object& fields = request.get_object();
    fields["uid"] = question.uid;
    if (!admission_.document) fields["kind"].get_object()["version"] = question.version;
    fields["resource"].get_object()["version"] = question.version;
    for (const char* empty : {"subResource", "requestSubResource", "namespace"}) {
      if (fields[empty] == "") fields.erase(empty);
    }
    for (const auto& [name, tree] : {std::pair("object", static_cast<const json::value*>(admission_.object)),
                                     std::pair("oldObject", admission_.old)}) {
      if (tree == nullptr) {
        fields[name] = nullptr;
        continue;
      }
      json::value shown = *tree;
      if (admission_.document) {
        const GroupVersionKind& own = admission_.input.sub->kind;
        shown.get_object()["kind"] = own.kind;
        shown.get_object()["apiVersion"] = own.api_version();
        fields[name] = std::move(shown);
        continue;
      }
      shown.get_object()["kind"] = type.kind;
      if (!shown.get_object().contains("apiVersion"))
        shown.get_object()["apiVersion"] = type.gvk(own_version()).api_version();
      ORC_TRY(convert(shown, question.version));
      fields[name] = std::move(shown);
    }
    fields["options"] = options();
    return json::value(json::object{{"kind", "AdmissionReview"},
                                    {"apiVersion", "admission.k8s.io/" + question.review_version},
                                    {"request", std::move(request)}});
  }

  /// What a webhook answered: refusals are errors, everything else lets the write go on.
  struct Verdict {
    json::value patch;  ///< JSON patch, or null
  };
  Result<Verdict> verdict(const Question& question, const Result<json::value>& answer) {
    const Webhook& hook = *question.hook;
    if (!answer) return passed_over(hook, "failed to call webhook: " + answer.error().message());
    const json::value* response = find(*answer, "/response");
    if (response == nullptr || !response->is_object())
      return passed_over(hook, "received invalid webhook response: webhook response was absent");
    if (string_at(*answer, "/kind") != "AdmissionReview")
      return passed_over(hook,
                         "received invalid webhook response: expected webhook response of admission.k8s.io/" +
                             question.review_version + ", Kind=AdmissionReview");
    if (string_at(*response, "/uid") != question.uid && question.review_version == "v1")
      return passed_over(hook, "received invalid webhook response: expected response.uid=\"" + question.uid +
                                   "\", got \"" + string_at(*response, "/uid") + "\"");
    take_warnings(*response);
    take_annotations(hook, *response);
    if (!bool_at(*response, "/allowed")) return refused(hook, *response);
    Verdict verdict;
    const std::string patch = string_at(*response, "/patch");
    if (patch.empty()) return verdict;
    if (string_at(*response, "/patchType", question.review_version == "v1" ? "" : "JSONPatch") != "JSONPatch")
      return passed_over(hook,
                         "received invalid webhook response: invalid patchType, only JSONPatch is known");
    const auto text = decode_base64_text(patch);
    auto tree =
        text ? parse_json(*text) : Result<json::value>(Error(Error::invalid, "webhook", "not base64"));
    if (!tree || !tree->is_array())
      return passed_over(hook, "received undecodable patch in webhook response: " +
                                   (tree ? std::string("not an array") : tree.error().message()));
    verdict.patch = std::move(*tree);
    return verdict;
  }

  /// The object after a patch: completed, with the identity that it had.
  Result<void> apply(const Question& question, const json::value& patch) {
    const api::TypeRecord& type = *admission_.input.type;
    json::value next = *admission_.object;
    if (!admission_.document) ORC_TRY(convert(next, question.version));
    if (auto applied = api::json_patch(next, patch); !applied)
      return fatal(*question.hook, "failed to apply the patch: " + applied.error().message());
    if (admission_.document) {
      *admission_.object = std::move(next);
      return {};
    }
    const api::TypeVersion* sent = type.version(question.version);
    auto unknown = api::prune_unknown(sent == nullptr ? schema() : sent->schema, next);
    if (!unknown) return fatal(*question.hook, "the patched object: " + unknown.error().message());
    ORC_TRY(convert(next, own_version()));
    for (const char* field : {"name", "namespace", "uid"}) {
      if (api::meta_string(next, field) != api::meta_string(*admission_.object, field))
        return fatal(*question.hook, std::string("it may not change metadata.") + field);
    }
    api::apply_defaults(schema(), next);
    *admission_.object = std::move(next);
    return {};
  }

 private:
  api::SchemaRef schema() const { return admission_.input.work_schema(); }
  // The version of the trees here: what is stored where the requested one has another shape.
  std::string own_version() const {
    const WriteInput& input = admission_.input;
    if (input.version->conversion == nullptr) return input.version->name;
    return std::string(api::split_api_version(input.type->stored_api_version()).second);
  }

  Result<void> convert(json::value& tree, const std::string& to) const {
    const api::TypeRecord& type = *admission_.input.type;
    const api::TypeVersion* version = type.version(to);
    if (version == nullptr || string_at(tree, "/apiVersion") == type.gvk(to).api_version()) return {};
    if (version->conversion == nullptr && type.builtin) {
      // From the requested version's shape to the stored one's.
      if (const api::TypeVersion* from =
              type.version(api::split_api_version(string_at(tree, "/apiVersion")).second);
          from != nullptr && from->conversion != nullptr) {
        return api::to_stored(type, *from, tree);
      }
    }
    return api::from_stored(type, *version, tree);
  }

  // The version in which the webhook wants it; empty: it is not asked.
  std::string version_for(const Webhook& hook) const {
    const json::array* rules = array_at(hook.spec, "/rules");
    if (rules == nullptr) return {};
    const auto any = [&](const std::string& version) {
      return std::any_of(rules->begin(), rules->end(),
                         [&](const json::value& rule) { return subject_.rule_matches(rule, version); });
    };
    if (any(subject_.version)) return subject_.version;
    if (string_at(hook.spec, "/matchPolicy", "Equivalent") != "Equivalent") return {};
    for (const api::TypeVersion& version : admission_.input.type->versions) {
      if (version.served && any(version.name)) return version.name;
    }
    return {};
  }

  Result<bool> conditions_hold(const Webhook& hook) {
    const json::array* conditions = array_at(hook.spec, "/matchConditions");
    if (conditions == nullptr || conditions->empty()) return true;
    std::uint64_t budget = cel::kTotalBudget;
    WriteExpressions expressions(subject_, request_, budget);
    std::string failed;
    for (const json::value& condition : *conditions) {
      const cel::Value holds = expressions.evaluate(string_at(condition, "/expression"));
      const bool* yes = holds.as<bool>();
      if (yes != nullptr && !*yes) return false;  // one that is false decides, whatever failed
      if (yes != nullptr || !failed.empty()) continue;
      const auto* failure = holds.as<cel::Failure>();
      failed =
          "matchCondition \"" + string_at(condition, "/name") + "\" " +
          (failure == nullptr ? std::string("is not a boolean") : "resulted in error: " + failure->message);
    }
    if (failed.empty()) return true;
    if (hook.fails_open) return false;
    return call_failed(hook, failed);
  }

  static bool spares_dry_runs(const Webhook& hook) {
    const std::string effects = string_at(hook.spec, "/sideEffects");
    return effects == "None" || effects == "NoneOnDryRun";
  }
  static std::string review_version(const Webhook& hook) {
    const json::array* accepted = array_at(hook.spec, "/admissionReviewVersions");
    if (accepted == nullptr) return {};
    for (const json::value& one : *accepted) {
      if (one == "v1" || one == "v1beta1") return std::string(one.get_string());
    }
    return {};
  }

  json::value options() const {
    if (admission_.connects) return nullptr;
    const std::string& verb = admission_.input.call->info.verb;
    const char* kind = subject_.operation == "DELETE" ? "DeleteOptions"
                       : verb == "patch"              ? "PatchOptions"
                       : verb == "create"             ? "CreateOptions"
                                                      : "UpdateOptions";
    json::object out{{"kind", kind}, {"apiVersion", "meta.k8s.io/v1"}};
    if (admission_.input.dry_run) out["dryRun"] = json::array{"All"};
    if (!admission_.input.field_manager.empty() && subject_.operation != "DELETE")
      out["fieldManager"] = admission_.input.field_manager;
    return out;
  }

  void take_warnings(const json::value& response) {
    const json::array* warnings = array_at(response, "/warnings");
    if (warnings == nullptr) return;
    for (const json::value& one : *warnings) {
      if (one.is_string()) admission_.change.warnings.emplace_back(one.get_string());
    }
  }

  // WEBHOOK/KEY in the audit event.
  void take_annotations(const Webhook& hook, const json::value& response) const {
    const json::object* annotations = object_at(response, "/auditAnnotations");
    if (annotations == nullptr) return;
    for (const auto& [key, value] : *annotations) {
      if (value.is_string())
        note(admission_, hook.name + "/" + std::string(key), std::string(value.get_string()));
    }
  }

  // failurePolicy decides about what is not an answer.
  Result<void> told(const Webhook& hook, const std::string& why) const {
    if (!hook.fails_open) return call_failed(hook, why);
    admission_.input.core->engine().log(LogLevel::warning, "apiserver",
                                        "webhook " + quoted_name(hook) + " of " + hook.configuration +
                                            " is passed over (failurePolicy Ignore): " + why);
    return {};
  }
  Result<Verdict> passed_over(const Webhook& hook, const std::string& why) const {
    ORC_TRY(told(hook, why));
    return Verdict{};
  }
  Result<std::optional<Question>> unreachable(const Webhook& hook, const std::string& why) const {
    ORC_TRY(told(hook, "failed to call webhook: " + why));
    return std::optional<Question>();
  }
  static Result<void> fatal(const Webhook& hook, const std::string& why) { return call_failed(hook, why); }

  static Error refused(const Webhook& hook, const json::value& response) {
    const std::string by = "admission webhook " + quoted_name(hook) + " denied the request";
    const std::string message = string_at(response, "/status/message");
    const std::string reason = string_at(response, "/status/reason");
    const std::int64_t code = int_at(response, "/status/code");
    const std::string text = !message.empty()  ? by + ": " + message
                             : !reason.empty() ? by + ": " + reason
                                               : by + " without explanation";
    return api::status_error(
        api::make_status(code >= 400 && code < 600 ? static_cast<int>(code) : 400, reason, text));
  }

  Admission& admission_;
  const WriteSubject& subject_;
  const json::value request_;
};

bool exempt(const Admission& admission) {
  return admission.input.type->group == kConfigurations || admission.input.type->virtual_only ||
         admission.input.call->user.own || admission.input.judged;
}
}  // namespace

Result<void> mutate_by_webhooks(Admission& admission) {
  if (exempt(admission)) return {};
  ApiCore& core = *const_cast<ApiCore*>(admission.input.core);
  ORC_ASSIGN(const std::vector<WebhookPtr> hooks, core.webhooks().list(true));
  if (hooks.empty()) return {};
  ORC_ASSIGN(const WriteSubject subject, WriteSubject::of(admission));
  std::vector<std::string> left(hooks.size());  // the object as each webhook left it
  bool changed = false;
  for (const bool again : {false, true}) {
    if (again && !changed) break;
    for (std::size_t i = 0; i < hooks.size(); ++i) {
      if (again && (!hooks[i]->reinvoked || left[i].empty() || left[i] == to_json(*admission.object)))
        continue;
      Round round(admission, subject);
      ORC_ASSIGN(const auto question, round.question(hooks[i]));
      if (!question) continue;
      ORC_ASSIGN(const json::value review, round.review(*question));
      const auto answer = core.webhook_caller().call(question->target, review, hooks[i]->timeout);
      ORC_ASSIGN(const Round::Verdict verdict, round.verdict(*question, answer));
      if (admission.object == nullptr) continue;
      if (verdict.patch.is_array() && !verdict.patch.get_array().empty()) {
        ORC_TRY(round.apply(*question, verdict.patch));
        changed = true;
      }
      left[i] = to_json(*admission.object);
    }
  }
  return {};
}

Result<void> judge_by_webhooks(Admission& admission) {
  if (exempt(admission)) return {};
  ApiCore& core = *const_cast<ApiCore*>(admission.input.core);
  ORC_ASSIGN(const std::vector<WebhookPtr> hooks, core.webhooks().list(false));
  if (hooks.empty()) return {};
  ORC_ASSIGN(const WriteSubject subject, WriteSubject::of(admission));
  Round round(admission, subject);
  struct Asked {
    Question question;
    Pending<HttpResponse> answer;
  };
  std::vector<Asked> asked;
  for (const WebhookPtr& hook : hooks) {
    ORC_ASSIGN(auto question, round.question(hook));
    if (!question) continue;
    ORC_ASSIGN(const json::value review, round.review(*question));
    auto pending = core.webhook_caller().send(question->target, review, hook->timeout);
    asked.push_back({std::move(*question), std::move(pending)});
  }
  for (Asked& one : asked) {
    const Duration timeout = one.question.hook->timeout;
    const auto answer =
        WebhookCaller::take(one.question.target, one.answer.wait(timeout + std::chrono::seconds(1)), timeout);
    ORC_TRY(round.verdict(one.question, answer));
  }
  return {};
}

// A webhook whose conditions do not compile is refused, with the place.
Result<void> check_webhooks(Admission& admission) {
  if (admission.input.type->group != kConfigurations || admission.object == nullptr) return {};
  const json::array* hooks = array_at(*admission.object, "/webhooks");
  if (hooks == nullptr) return {};
  api::FieldErrors errors;
  const api::FieldPath root("webhooks");
  for (std::size_t i = 0; i < hooks->size(); ++i) {
    const api::FieldPath at = root[i];
    const api::FieldPath list = at / "matchConditions";
    const json::array* conditions = array_at((*hooks)[i], "/matchConditions");
    for (std::size_t k = 0; conditions != nullptr && k < conditions->size(); ++k) {
      const std::string text = string_at((*conditions)[k], "/expression");
      const api::FieldPath one = list[k];
      if (auto fine = check_expression(text, {"params", "variables"}); !fine)
        errors.invalid(one / "expression", text, "compilation failed: " + fine.error().message());
    }
  }
  if (errors.empty()) return {};
  return api::invalid(kConfigurations, admission.input.type->kind,
                      std::string(api::meta_string(*admission.object, "name")), errors);
}

}  // namespace orchestra::apiserver
