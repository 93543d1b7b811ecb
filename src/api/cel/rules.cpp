// Validation rules of custom resources: judged with a budget, and checked when they are defined.
//
// Upstream apiextensions-apiserver: pkg/apiserver/schema/cel/validation.go (the texts of errors) and
// pkg/apis/apiextensions/validation/validation.go (what a definition may say).
#include <algorithm>
#include <mutex>
#include <unordered_map>

#include "api/cel/program.hpp"
#include "api/tree.hpp"

namespace orchestra::api::cel {
namespace {

/// Compiled rules by their text: definitions are few, objects many.
Result<Program> compiled_rule(const std::string& text) {
  static std::mutex mutex;
  static std::unordered_map<std::string, Program> cache;
  constexpr std::size_t kCacheMax = 4096;
  {
    std::lock_guard lock(mutex);
    if (const auto found = cache.find(text); found != cache.end()) return found->second;
  }
  ORC_ASSIGN(Program program, Program::compile(text, {"self", "oldSelf"}));
  std::lock_guard lock(mutex);
  if (cache.size() >= kCacheMax) cache.clear();
  cache.emplace(text, program);
  return program;
}

std::string_view trimmed(std::string_view text) {
  const auto space = [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; };
  while (!text.empty() && space(text.front())) text.remove_prefix(1);
  while (!text.empty() && space(text.back())) text.remove_suffix(1);
  return text;
}

FieldErrorType error_type(std::string_view reason) {
  if (reason == "FieldValueForbidden") return FieldErrorType::forbidden;
  if (reason == "FieldValueRequired") return FieldErrorType::required;
  if (reason == "FieldValueDuplicate") return FieldErrorType::duplicate;
  return FieldErrorType::invalid;
}

// Errors name the type instead of the value, which may be long.
std::string type_text(const RuleSubject& subject) {
  if (subject.schema) {
    if (const json::object* rules = subject.schema.rules()) {
      if (const std::string_view type = text_of(*rules, "type"); !type.empty())
        return "\"" + std::string(type) + "\"";
    }
  }
  const json::value& self = *subject.self;
  return self.is_object()   ? "\"object\""
         : self.is_array()  ? "\"array\""
         : self.is_string() ? "\"string\""
         : self.is_bool()   ? "\"boolean\""
         : self.is_double() ? "\"number\""
                            : "\"integer\"";
}

std::string child_path(const FieldPath& path, const std::string& below) {
  const std::string text = path.to_string();
  if (below.empty()) return text;
  if (text == FieldPath().to_string()) return below;  // of the object itself
  return text + (below[0] != '[' ? "." : "") + below;
}

// The message of one broken rule.
std::string message_of(const json::object& rule, const Program::Variables& variables, std::uint64_t& budget) {
  const std::string_view text = trimmed(text_of(rule, "rule"));
  std::string message(trimmed(text_of(rule, "message")));
  if (message.empty()) message = "failed rule: " + std::string(text);
  const std::string expression(text_of(rule, "messageExpression"));
  if (expression.empty()) return message;
  const auto program = compiled_rule(expression);
  if (!program) return message;
  Context context;
  context.budget = std::min(kCallBudget, budget);
  const Value made = program->evaluate(variables, context);
  budget -= std::min(budget, context.cost);
  // What is empty, of several lines or of another type is not used.
  const auto* own = made.as<std::string>();
  if (own == nullptr || trimmed(*own).empty() || own->find('\n') != std::string::npos) return message;
  return std::string(trimmed(*own));
}

class Judge {
 public:
  Judge(const RuleSubject& subject, const FieldPath& path, std::uint64_t& budget, FieldErrors& errors)
      : subject_(subject), path_(path), budget_(budget), errors_(errors), type_(type_text(subject)) {}

  // False: stop.
  bool judge(const json::object& rule) {
    const std::string text(trimmed(text_of(rule, "rule")));
    if (text.empty()) return true;
    const auto program = compiled_rule(text);
    if (!program) {
      add("rule compile error: " + program.error().message());
      return true;
    }
    const bool optional_old = flag_of(rule, "optionalOldSelf");
    const bool transition = program->uses("oldSelf");
    if (transition && !optional_old && subject_.old == nullptr) return true;  // needs both sides
    Program::Variables variables{{"self", from_json(*subject_.self, subject_.schema)}};
    const Value old = subject_.old == nullptr ? Value() : from_json(*subject_.old, subject_.schema);
    if (optional_old) {
      variables["oldSelf"] = Optional{subject_.old == nullptr ? nullptr : std::make_shared<const Value>(old)};
    } else if (subject_.old != nullptr) {
      variables["oldSelf"] = old;
    }
    Context context;
    context.budget = std::min(kCallBudget, budget_);
    const Value answer = program->evaluate(variables, context);
    const bool spent = context.cost > budget_;
    budget_ -= std::min(budget_, context.cost);
    if (spent) {
      add("validation failed due to running out of cost budget, no further validation rules will be run");
      return false;
    }
    if (const Failure* failed = answer.as<Failure>()) return failed_to_run(*failed, text);
    const bool* holds = answer.as<bool>();
    if (holds == nullptr) {
      add("the rule did not give a bool but a " + std::string(type_name(answer)) + ": " + text);
      return true;
    }
    if (*holds) return true;
    FieldError error{error_type(text_of(rule, "reason")), path_.to_string(), type_,
                     message_of(rule, variables, budget_)};
    if (const auto below = normalized_field_path(text_of(rule, "fieldPath"), subject_.schema))
      error.path = child_path(path_, *below);
    if (subject_.unchanged && !transition) {
      errors_.warn(error);
    } else {
      errors_.add(std::move(error));
    }
    return true;
  }

 private:
  void add(const std::string& why) { errors_.add({FieldErrorType::invalid, path_.to_string(), type_, why}); }
  bool failed_to_run(const Failure& failed, const std::string& text) {
    if (failed.over_budget) {
      add("'" + failed.message +
          "': no further validation rules will be run due to call cost exceeds limit for rule: " + text);
      return false;
    }
    if (failed.message.starts_with("no such overload")) {
      add("'" + failed.message +
          "': call arguments did not match a supported operator, function or macro signature for rule: " +
          text);
    } else {
      add(failed.message + " evaluating rule: " + text);
    }
    return true;
  }

  const RuleSubject& subject_;
  const FieldPath& path_;
  std::uint64_t& budget_;
  FieldErrors& errors_;
  const std::string type_;
};

bool has_newline(std::string_view text) { return text.find('\n') != std::string_view::npos; }

void check_expression(const json::object& rule, const char* field, const RulePlace& place,
                      const FieldPath& at, double& total, FieldErrors& errors) {
  const std::string text(trimmed(text_of(rule, field)));
  if (text.empty()) return;
  const auto program = Program::compile(text, {"self", "oldSelf"});
  if (!program) return errors.invalid(at / field, text, "compilation failed: " + program.error().message());
  if (place.schema) {
    if (const auto fine = check_fields(program->ast(), text, place.schema); !fine)
      return errors.invalid(at / field, text, "compilation failed: " + fine.error().message());
    const double cost = estimate_cost(program->ast(), place.schema) * place.cardinality;
    total += cost;
    if (cost > kEstimateMax) {
      const double factor = cost / kEstimateMax;
      const std::string times = factor > 100 ? "more than 100x" : std::to_string(factor).substr(0, 4) + "x";
      errors.forbidden(at / field, std::string("estimated ") +
                                       (std::string_view(field) == "rule" ? "rule" : "messageExpression") +
                                       " cost exceeds budget by factor of " + times +
                                       " (try simplifying the rule, or adding maxItems, maxProperties, and "
                                       "maxLength where arrays, maps, and strings are declared)");
    }
  }
  if (std::string_view(field) != "rule") return;
  const bool transition = program->uses("oldSelf");
  if (transition && !place.uncorrelated.empty()) {
    errors.invalid(
        at / field, text,
        "oldSelf cannot be used on the uncorrelatable portion of the schema within " + place.uncorrelated);
  }
  if (rule.contains("optionalOldSelf") && !transition) {
    errors.invalid(at / "optionalOldSelf", *rule.if_contains("optionalOldSelf"),
                   "may not be set if oldSelf is not used in rule");
  }
}

void check_rule(const json::object& rule, const RulePlace& place, const FieldPath& at, double& total,
                FieldErrors& errors) {
  const std::string_view text = trimmed(text_of(rule, "rule")), message = text_of(rule, "message");
  if (text.empty()) {
    errors.required(at / "rule", "rule is not specified");
  } else if (!message.empty() && trimmed(message).empty()) {
    errors.invalid(at / "message", message, "message must be non-empty if specified");
  } else if (has_newline(trimmed(message))) {
    errors.invalid(at / "message", message, "message must not contain line breaks");
  } else if (has_newline(text) && message.empty()) {
    errors.required(at / "message", "message must be specified if rule contains line breaks");
  }
  const std::string_view expression = text_of(rule, "messageExpression");
  if (!expression.empty() && trimmed(expression).empty())
    errors.required(at / "messageExpression", "messageExpression must be non-empty if specified");
  static constexpr std::string_view kReasons[] = {"FieldValueDuplicate", "FieldValueForbidden",
                                                  "FieldValueInvalid", "FieldValueRequired"};
  const std::string_view reason = text_of(rule, "reason");
  if (!reason.empty() && std::find(std::begin(kReasons), std::end(kReasons), reason) == std::end(kReasons))
    errors.not_supported(at / "reason", json::string(reason), {std::begin(kReasons), std::end(kReasons)});
  if (const std::string_view field = text_of(rule, "fieldPath"); !field.empty()) {
    if (trimmed(field).empty()) {
      errors.invalid(at / "fieldPath", field, "fieldPath must be non-empty if specified");
    } else if (has_newline(field)) {
      errors.invalid(at / "fieldPath", field, "fieldPath must not contain line breaks");
    } else if (const auto path = normalized_field_path(field, place.schema); !path) {
      errors.invalid(at / "fieldPath", field, "fieldPath must be a valid path: " + path.error().message());
    }
  }
  check_expression(rule, "rule", place, at, total, errors);
  check_expression(rule, "messageExpression", place, at, total, errors);
}
}  // namespace

void check_rules(const json::array& rules, const RulePlace& place, const FieldPath& path, double& total,
                 FieldErrors& errors) {
  for (std::size_t i = 0; i < rules.size(); ++i) {
    if (rules[i].is_object()) check_rule(rules[i].get_object(), place, path[i], total, errors);
  }
}

bool validate_rules(const json::array& rules, const RuleSubject& subject, const FieldPath& path,
                    std::uint64_t& budget, FieldErrors& errors) {
  Judge judge(subject, path, budget, errors);
  for (const json::value& rule : rules) {
    if (rule.is_object() && !judge.judge(rule.get_object())) return false;
  }
  return true;
}

Result<std::string> normalized_field_path(std::string_view text, SchemaRef schema) {
  const Error bad(Error::invalid, "cel", "it does not refer to a valid field");
  text = trimmed(text);
  std::string out;
  while (!text.empty()) {
    std::string name;
    const bool quoted = text.starts_with("['");
    if (quoted) {
      const std::size_t end = text.find("']");
      if (end == std::string_view::npos) return bad;
      name = std::string(text.substr(2, end - 2));
      text.remove_prefix(end + 2);
    } else if (text[0] == '.') {
      const std::size_t end = std::min(text.find_first_of(".[", 1), text.size());
      name = std::string(text.substr(1, end - 1));
      text.remove_prefix(end);
    } else {
      return bad;
    }
    if (name.empty()) return bad;
    const bool map = schema && schema.kind() == SchemaKind::map;
    if (schema) {
      SchemaRef below;
      if (map) below = schema.element();
      if (schema.kind() == SchemaKind::object) below = schema.property(name);
      if (!below) return bad;
      schema = below;
    }
    if (map || (quoted && name.find('.') != std::string::npos)) {
      out += "[" + name + "]";
    } else {
      out += (out.empty() ? "" : ".") + name;
    }
  }
  return out;
}

}  // namespace orchestra::api::cel
