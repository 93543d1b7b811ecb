// Evaluation: see program.hpp and cel-spec doc/langdef.md.
//
// Costs as upstream's actual cost tracking: one for each node, more for what is made or read in bulk. An
// evaluation that is over its budget ends with a failure that says so, wherever it is.
#include "api/cel/program.hpp"

#include <cmath>

namespace orchestra::api::cel {
namespace {
constexpr std::uint64_t kListCost = 10, kMapCost = 30;
constexpr int kEvalDepthMax = 1000;

class Evaluation {
 public:
  Evaluation(const Ast& ast, const Program::Variables& variables, Context& context)
      : ast_(ast), variables_(variables), context_(context) {}

  Value eval(std::uint32_t index) {
    if (!context_.spend(1)) return over();
    if (++depth_ > kEvalDepthMax) {
      --depth_;
      return failure("the expression nests too deep");
    }
    Value out = eval_node(ast_.nodes[index]);
    --depth_;
    return out;
  }

 private:
  static Value over() { return Failure{"operation cancelled: actual cost limit exceeded", true}; }

  Value eval_node(const Node& node) {
    switch (node.kind) {
      case NodeKind::literal:
        return node.literal;
      case NodeKind::ident:
        return lookup(node.text);
      case NodeKind::select:
        return select(node, false);
      case NodeKind::test:
        return select(node, true);
      case NodeKind::index:
        return index(node);
      case NodeKind::call:
        return call(node);
      case NodeKind::list:
        return list(node);
      case NodeKind::map:
        return map(node);
      case NodeKind::conditional: {
        const Value test = eval(node.children[0]);
        if (test.failed()) return test;
        const bool* yes = test.as<bool>();
        if (yes == nullptr) return no_overload("_?_:_");
        return eval(node.children[*yes ? 1 : 2]);
      }
      case NodeKind::logic_and:
        return logic(node, false);
      case NodeKind::logic_or:
        return logic(node, true);
      case NodeKind::macro:
        return macro(node);
      case NodeKind::bind: {
        Value value = eval(node.children[0]);
        if (value.failed()) return value;
        scope_.emplace_back(&node.names[0], std::move(value));
        Value out = eval(node.children[1]);
        scope_.pop_back();
        return out;
      }
    }
    return failure("unknown node");
  }

  Value lookup(const std::string& name) {
    for (auto it = scope_.rbegin(); it != scope_.rend(); ++it) {
      if (*it->first == name) return it->second;
    }
    if (const auto found = variables_.find(name); found != variables_.end()) return found->second;
    static const std::map<std::string, const char*> kTypes = {
        {"int", "int"},   {"uint", "uint"},     {"double", "double"},
        {"bool", "bool"}, {"string", "string"}, {"bytes", "bytes"},
        {"list", "list"}, {"map", "map"},       {"null_type", "null_type"},
        {"type", "type"}};
    if (const auto found = kTypes.find(name); found != kTypes.end()) return TypeName{found->second};
    return failure("no such attribute: " + name);
  }

  /// `&&` and `||` absorb the error of one side if the other decides.
  Value logic(const Node& node, bool decisive) {
    const Value left = eval(node.children[0]);
    const bool* a = left.as<bool>();
    if (a != nullptr && *a == decisive) return decisive;
    if (over_budget(left)) return left;
    const Value right = eval(node.children[1]);
    const bool* b = right.as<bool>();
    if (b != nullptr && *b == decisive) return decisive;
    if (left.failed()) return left;
    if (right.failed()) return right;
    if (a == nullptr || b == nullptr) return no_overload(decisive ? "_||_" : "_&&_");
    return !decisive;
  }
  static bool over_budget(const Value& value) {
    const Failure* failed = value.as<Failure>();
    return failed != nullptr && failed->over_budget;
  }

  Value select(const Node& node, bool test) {
    Value base = eval(node.children[0]);
    if (base.failed()) return base;
    const Optional* wrapped = base.as<Optional>();
    const bool optional = node.optional || wrapped != nullptr;
    if (wrapped != nullptr) {
      if (wrapped->value == nullptr) return test ? Value(false) : base;
      base = Value(*wrapped->value);
    }
    if (base.as<AccessQuery>() != nullptr && node.text == "requestResource" && !test) return context_.request;
    if (!is_map(base)) {
      if (optional && !test)
        return failure("unsupported optional selection on " + std::string(type_name(base)));
      return no_overload(std::string(type_name(base)) + "." + node.text);
    }
    auto found = member(base, Value(node.text));
    if (!found && base.as<Json>() != nullptr && node.text.find("__") != std::string::npos)
      found = member(base, Value(unescaped_field(node.text)));
    if (test) return found.has_value();
    if (optional) return Optional{found ? std::make_shared<const Value>(std::move(*found)) : nullptr};
    if (!found) return failure("no such key: " + node.text);
    return std::move(*found);
  }

  static std::optional<std::int64_t> whole(const Value& value) {
    if (const auto* i = value.as<std::int64_t>()) return *i;
    if (const auto* u = value.as<std::uint64_t>())
      return *u < (std::uint64_t{1} << 62) ? std::optional<std::int64_t>(*u) : std::nullopt;
    if (const auto* d = value.as<double>(); d != nullptr && std::floor(*d) == *d && std::fabs(*d) < 1e15)
      return static_cast<std::int64_t>(*d);
    return std::nullopt;
  }

  Value index(const Node& node) {
    Value base = eval(node.children[0]);
    if (base.failed()) return base;
    const Value key = eval(node.children[1]);
    if (key.failed()) return key;
    const Optional* wrapped = base.as<Optional>();
    const bool optional = node.optional || wrapped != nullptr;
    if (wrapped != nullptr) {
      if (wrapped->value == nullptr) return base;
      base = Value(*wrapped->value);
    }
    std::optional<Value> found;
    std::string missing;
    if (is_list(base)) {
      const auto at = whole(key);
      if (!at) return no_overload("_[_]");
      if (*at >= 0 && static_cast<std::size_t>(*at) < size_of(base))
        found = item(base, static_cast<std::size_t>(*at));
      missing = "index out of bounds: " + std::to_string(*at);
    } else if (is_map(base)) {
      found = member(base, key);
      const json::value shown = to_json_value(key);
      missing =
          "no such key: " + (shown.is_string() ? std::string(shown.get_string()) : json::serialize(shown));
    } else {
      return no_overload("_[_]");
    }
    if (optional) return Optional{found ? std::make_shared<const Value>(std::move(*found)) : nullptr};
    if (!found) return failure(missing);
    return std::move(*found);
  }

  Value call(const Node& node) {
    std::vector<Value> arguments;
    arguments.reserve(node.children.size());
    for (std::size_t i = 0; i < node.children.size(); ++i) {
      Value value = eval(node.children[i]);
      if (value.failed()) return value;
      // or and orValue look at the other side only if they must.
      if (i == 0 && node.method && (node.text == "or" || node.text == "orValue") &&
          node.children.size() == 2) {
        const Optional* optional = value.as<Optional>();
        if (optional == nullptr) return no_overload(node.text);
        if (optional->value != nullptr) return node.text == "or" ? value : *optional->value;
        return eval(node.children[1]);
      }
      arguments.push_back(std::move(value));
    }
    Value out = node.method ? call_method(context_, node.text, arguments)
                            : call_function(context_, node.text, arguments);
    if (context_.cost > context_.budget) return over();
    return out;
  }

  Value list(const Node& node) {
    if (!context_.spend(kListCost)) return over();
    std::vector<Value> items;
    for (std::size_t i = 0; i < node.children.size(); ++i) {
      Value value = eval(node.children[i]);
      if (value.failed()) return value;
      if (node.optional_parts[i]) {
        const Optional* optional = value.as<Optional>();
        if (optional == nullptr) return no_overload("[?_]");
        if (optional->value == nullptr) continue;
        value = Value(*optional->value);
      }
      items.push_back(std::move(value));
    }
    return make_list(std::move(items));
  }

  Value map(const Node& node) {
    if (!context_.spend(kMapCost)) return over();
    std::vector<std::pair<Value, Value>> members;
    for (std::size_t i = 0; i < node.children.size(); i += 2) {
      Value key = eval(node.children[i]);
      if (key.failed()) return key;
      Value value = eval(node.children[i + 1]);
      if (value.failed()) return value;
      if (node.optional_parts[i / 2]) {
        const Optional* optional = value.as<Optional>();
        if (optional == nullptr) return no_overload("{?_: _}");
        if (optional->value == nullptr) continue;
        value = Value(*optional->value);
      }
      for (const auto& [other, ignored] : members) {
        if (equal(other, key)) return failure("insert failed: key already exists");
      }
      members.emplace_back(std::move(key), std::move(value));
    }
    return make_map(std::move(members));
  }

  // One step of a macro with its variables set.
  Value step(const Node& node, std::size_t body, const Value& first, const Value& second) {
    scope_.emplace_back(&node.names[0], first);
    if (node.names.size() > 1) scope_.emplace_back(&node.names[1], second);
    Value out = eval(node.children[body]);
    scope_.resize(scope_.size() - node.names.size());
    return out;
  }

  Value macro(const Node& node) {
    const Value range = eval(node.children[0]);
    if (range.failed()) return range;
    if (node.text == "optMap" || node.text == "optFlatMap") return optional_map(node, range);
    const bool over_list = is_list(range);
    if (!over_list && !is_map(range)) return no_overload(node.text);
    const std::vector<Value> keys = over_list ? std::vector<Value>() : keys_of(range);
    const std::size_t count = over_list ? size_of(range) : keys.size();
    const bool two = node.names.size() > 1;
    Fold fold{node, {}, {}, {}, 0, std::nullopt};
    for (std::size_t i = 0; i < count && !fold.decided; ++i) {
      if (!context_.spend(1)) return over();
      const Value key = over_list ? Value(static_cast<std::int64_t>(i)) : keys[i];
      const Value value = over_list ? item(range, i) : two ? *member(range, key) : Value();
      // With one variable it is the element of a list, the key of a map.
      const Value& first = two ? key : over_list ? value : key;
      fold_step(fold, first, value, two ? key : first);
    }
    return fold_end(fold);
  }

  struct Fold {
    const Node& node;
    std::vector<Value> items;
    std::vector<std::pair<Value, Value>> members;
    Value error;  ///< Null while there is none
    std::size_t hits = 0;
    std::optional<Value> decided;
  };

  void fold_step(Fold& fold, const Value& first, const Value& second, const Value& key) {
    const std::string& name = fold.node.text;
    const bool collects = name == "map" || name == "filter" || name.starts_with("transform");
    const Value test = step(fold.node, 1, first, second);
    if (over_budget(test)) {
      fold.decided = test;
      return;
    }
    if (!collects) {
      const bool* yes = test.as<bool>();
      if (yes == nullptr) {
        if (fold.error.as<Null>() != nullptr) fold.error = test.failed() ? test : no_overload(name);
        if (name == "exists_one" || name == "existsOne") fold.decided = fold.error;
        return;
      }
      if (name == "all" && !*yes) fold.decided = Value(false);
      if (name == "exists" && *yes) fold.decided = Value(true);
      fold.hits += *yes ? 1 : 0;
      return;
    }
    if (test.failed()) {
      fold.decided = test;
      return;
    }
    const bool filtered = name == "filter" || fold.node.children.size() == 3;
    if (filtered) {
      const bool* yes = test.as<bool>();
      if (yes == nullptr) {
        fold.decided = no_overload(name);
        return;
      }
      if (!*yes) return;
    }
    Value made = name == "filter" ? first : filtered ? step(fold.node, 2, first, second) : test;
    if (made.failed()) {
      fold.decided = made;
    } else if (name == "transformMap") {
      fold.members.emplace_back(key, std::move(made));
    } else {
      fold.items.push_back(std::move(made));
    }
  }

  static Value fold_end(Fold& fold) {
    if (fold.decided) return *fold.decided;
    const std::string& name = fold.node.text;
    if (name == "transformMap") return make_map(std::move(fold.members));
    if (name == "map" || name == "filter" || name == "transformList") return make_list(std::move(fold.items));
    if (fold.error.as<Null>() == nullptr) return fold.error;
    if (name == "all") return true;
    if (name == "exists") return false;
    return fold.hits == 1;
  }

  Value optional_map(const Node& node, const Value& range) {
    const Optional* optional = range.as<Optional>();
    if (optional == nullptr) return no_overload(node.text);
    if (optional->value == nullptr) return range;
    Value out = step(node, 1, *optional->value, Value());
    if (out.failed() || node.text == "optFlatMap") return out;
    return Optional{std::make_shared<const Value>(std::move(out))};
  }

  const Ast& ast_;
  const Program::Variables& variables_;
  Context& context_;
  std::vector<std::pair<const std::string*, Value>> scope_;
  int depth_ = 0;
};
}  // namespace

Result<Program> Program::compile(std::string_view text, const std::vector<std::string>& variables) {
  ORC_ASSIGN(Ast ast, parse(text));
  ORC_TRY(check(ast, text, variables));
  Program program;
  program.text_ = std::make_shared<const std::string>(text);
  program.ast_ = std::make_shared<const Ast>(std::move(ast));
  return program;
}

Value Program::evaluate(const Variables& variables, Context& context) const {
  Evaluation evaluation(*ast_, variables, context);
  return evaluation.eval(ast_->root);
}

bool Program::uses(const std::string& variable) const {
  for (const Node& node : ast_->nodes) {
    if (node.kind == NodeKind::ident && node.text == variable) return true;
  }
  return false;
}

}  // namespace orchestra::api::cel
