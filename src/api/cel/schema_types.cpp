// What a schema says about an expression before it ever runs: fields that do not exist, and a bound of its
// cost.
//
// Types are followed where they are plain: fields of fields, elements, the variables of macros. Where they
// are not (the result of most functions) nothing is claimed. The estimate follows upstream's estimator
// (k8s.io/apiserver/pkg/cel/library/cost.go and apiextensions' cel/estimator): each step costs one, a macro
// the size of its list times its body, text functions a tenth of what they read. What is not known costs
// little, so a definition that upstream takes is not refused here.
#include <algorithm>

#include "api/cel/program.hpp"
#include "api/tree.hpp"

namespace orchestra::api::cel {
namespace {

constexpr double kRequestBytes = 3 * 1024 * 1024;  // what fits into one request
constexpr double kTextFactor = 0.1;                // of each character that is read
constexpr const char* kReserved[] = {"true",   "false",    "null", "in",      "as",        "break",
                                     "const",  "continue", "else", "for",     "function",  "if",
                                     "import", "let",      "loop", "package", "namespace", "return"};

double bound_of(SchemaRef schema, const char* word) {
  const json::object* rules = schema.rules();
  const json::value* bound = rules == nullptr ? nullptr : rules->if_contains(word);
  return bound != nullptr && bound->is_int64() ? static_cast<double>(bound->get_int64()) : -1;
}

// The fewest bytes that a value of this schema takes in JSON.
double bytes_min(SchemaRef schema, int depth = 0) {
  if (depth > 8) return 2;
  switch (schema.kind()) {
    case SchemaKind::boolean:
      return 4;
    case SchemaKind::int32:
    case SchemaKind::int64:
    case SchemaKind::number:
    case SchemaKind::any:
    case SchemaKind::int_or_string:
      return 1;
    case SchemaKind::object: {
      double bytes = 2;
      const json::object* rules = schema.rules();
      if (rules == nullptr) return bytes;
      for (const json::value& name : array_or_empty(*rules, "required")) {
        if (!name.is_string()) continue;
        if (const SchemaRef property = schema.property(std::string_view(name.get_string())))
          bytes += static_cast<double>(name.get_string().size()) + 4 + bytes_min(property, depth + 1);
      }
      return bytes;
    }
    default:
      return 2;
  }
}

double text_max(SchemaRef schema) {
  const double bound = bound_of(schema, "maxLength");
  if (bound >= 0) return bound;
  if (const json::object* rules = schema.rules()) {
    double longest = -1;
    for (const json::value& word : array_or_empty(*rules, "enum")) {
      if (word.is_string()) longest = std::max(longest, static_cast<double>(word.get_string().size()));
    }
    if (longest >= 0) return longest;
    const std::string_view format = text_of(*rules, "format");
    if (format == "date-time") return 41;
    if (format == "duration") return 32;
    if (format == "date") return 10;
  }
  return kRequestBytes;
}

/// What is known about the value of a node.
struct Known {
  SchemaRef schema;  ///< empty: nothing
  double size = -1;  ///< characters or elements at most; < 0: not known
  double cost = 0;
};

class Inspection {
 public:
  Inspection(const Ast& ast, std::string_view text, const KnownVariables& variables, bool rule, bool check)
      : ast_(ast), text_(text), variables_(variables), rule_(rule), check_(check) {}

  Known look(std::uint32_t index) {
    if (++depth_ > kDepthMax * 2 || error_) {
      --depth_;
      return {};
    }
    Known known = look_at(ast_.nodes[index]);
    --depth_;
    return known;
  }
  const std::optional<Error>& error() const { return error_; }

 private:
  static double size_of_schema(SchemaRef schema) {
    if (!schema) return -1;
    if (schema.kind() == SchemaKind::string) return text_max(schema);
    if (schema.kind() == SchemaKind::list || schema.kind() == SchemaKind::map) return elements_max(schema);
    return -1;
  }
  static Known of(SchemaRef schema, double cost) { return {schema, size_of_schema(schema), cost}; }

  Known look_at(const Node& node) {
    switch (node.kind) {
      case NodeKind::literal:
        return literal(node);
      case NodeKind::ident:
        return ident(node);
      case NodeKind::select:
      case NodeKind::test:
        return select(node);
      case NodeKind::index:
        return index(node);
      case NodeKind::call:
        return call(node);
      case NodeKind::macro:
        return macro(node);
      case NodeKind::bind: {
        const Known value = look(node.children[0]);
        scope_.emplace_back(node.names[0], value);
        Known body = look(node.children[1]);
        scope_.pop_back();
        body.cost += value.cost + 1;
        return body;
      }
      case NodeKind::conditional: {
        const Known test = look(node.children[0]), yes = look(node.children[1]), no = look(node.children[2]);
        Known out;
        if (yes.schema == no.schema) out.schema = yes.schema;
        if (yes.size >= 0 && no.size >= 0) out.size = std::max(yes.size, no.size);
        out.cost = test.cost + std::max(yes.cost, no.cost) + 1;
        return out;
      }
      default: {
        Known out{{}, static_cast<double>(node.children.size()), 1};
        for (const std::uint32_t child : node.children) out.cost += look(child).cost;
        return out;
      }
    }
  }

  static Known literal(const Node& node) {
    const auto* text = node.literal.as<std::string>();
    return {{}, text != nullptr ? static_cast<double>(text->size()) : -1, 0};
  }

  Known ident(const Node& node) {
    for (auto it = scope_.rbegin(); it != scope_.rend(); ++it) {
      if (it->first != node.text) continue;
      Known known = it->second;
      known.cost = 1;
      return known;
    }
    const auto known = variables_.find(node.text);
    return known == variables_.end() ? Known{{}, -1, 1} : of(known->second, 1);
  }

  Known select(const Node& node) {
    Known base = look(node.children[0]);
    const double cost = base.cost + 1;
    if (const Node& holder = ast_.nodes[node.children[0]];
        holder.kind == NodeKind::ident && holder.text == "variables") {
      const auto known = variables_.find("variables." + node.text);
      if (known != variables_.end()) return of(known->second, cost);
    }
    if (!base.schema) return {{}, -1, cost};
    if (base.schema.kind() == SchemaKind::map) return of(base.schema.element(), cost);
    if (base.schema.kind() != SchemaKind::object) return {{}, -1, cost};
    SchemaRef property = base.schema.property(node.text);
    if (!property) property = base.schema.property(unescaped_field(node.text));
    const bool metadata = rule_ && base.schema.type_name().ends_with(".ObjectMeta");
    const bool hidden = metadata && node.text != "name" && node.text != "generateName";
    if ((!property && !base.schema.has(SchemaNode::preserve_unknown)) || hidden) {
      complain(node, "undefined field '" + node.text + "'");
      return {{}, -1, cost};
    }
    return property ? of(property, cost) : Known{{}, -1, cost};
  }

  Known index(const Node& node) {
    const Known base = look(node.children[0]), key = look(node.children[1]);
    const double cost = base.cost + key.cost + 1;
    if (base.schema && (base.schema.kind() == SchemaKind::list || base.schema.kind() == SchemaKind::map))
      return of(base.schema.element(), cost);
    return {{}, -1, cost};
  }

  Known call(const Node& node) {
    std::vector<Known> parts;
    double cost = 1;
    for (const std::uint32_t child : node.children) {
      parts.push_back(look(child));
      cost += parts.back().cost;
    }
    const auto size = [&](std::size_t i) {
      return i < parts.size() && parts[i].size > 0 ? parts[i].size : 0.0;
    };
    const std::string& name = node.text;
    const bool first_list = !parts.empty() && parts[0].schema && parts[0].schema.kind() != SchemaKind::string;
    Known out;
    if (name == "contains" || name == "indexOf" || name == "lastIndexOf") {
      cost += size(0) * kTextFactor * std::max(1.0, size(1) * kTextFactor);
    } else if (name == "matches" || name == "find" || name == "findAll") {
      cost += std::max(1.0, size(0) * kTextFactor) * std::max(1.0, size(1) * 0.25);
    } else if (name == "startsWith" || name == "endsWith") {
      cost += size(1) * kTextFactor;
    } else if (name == "lowerAscii" || name == "upperAscii" || name == "trim" || name == "replace" ||
               name == "split" || name == "substring" || name == "join" || name == "url" ||
               name == "quantity" || name == "ip" || name == "cidr" || name == "timestamp" ||
               name == "duration") {
      cost += size(0) * kTextFactor;
      out.size = size(0);
    } else if (name == "_==_" || name == "==" || name == "_!=_" || name == "!=") {
      if (size(0) > 0 && size(1) > 0) cost += std::min(size(0), size(1)) * kTextFactor;
    } else if (name == "in" || name == "_in_" || name == "@in") {
      if (parts.size() > 1 && parts[1].schema && parts[1].schema.kind() == SchemaKind::list) cost += size(1);
    } else if (first_list && (name == "isSorted" || name == "sum" || name == "min" || name == "max")) {
      cost += size(0);
    } else if ((name == "value" || name == "orValue" || name == "or") && !parts.empty()) {
      out = parts[0];
    } else if (name == "_+_" || name == "+") {
      if (size(0) > 0 && size(1) > 0) out.size = size(0) + size(1);
    }
    out.cost = cost;
    return out;
  }

  Known macro(const Node& node) {
    const Known range = look(node.children[0]);
    const bool list = range.schema && range.schema.kind() == SchemaKind::list;
    const bool map = range.schema && range.schema.kind() == SchemaKind::map;
    const bool optional = node.text == "optMap" || node.text == "optFlatMap";
    const std::size_t names = node.names.size();
    for (std::size_t i = 0; i < names; ++i) {
      Known variable;
      if (optional) {
        variable = range;
      } else if (list && i + 1 == names) {
        variable = of(range.schema.element(), 0);
      } else if (map && names == 2 && i == 1) {
        variable = of(range.schema.element(), 0);
      }
      scope_.emplace_back(node.names[i], variable);
    }
    double body = 0;
    for (std::size_t i = 1; i < node.children.size(); ++i) body += look(node.children[i]).cost;
    scope_.resize(scope_.size() - names);
    Known out;
    const double times = optional ? 1 : range.size >= 0 ? range.size : 1;
    out.cost = range.cost + 1 + times * (body + 1);
    if (node.text == "filter") out.schema = range.schema;
    if (node.text == "filter" || node.text == "map" || node.text == "transformList") out.size = range.size;
    return out;
  }

  void complain(const Node& node, const std::string& why) {
    if (check_ && !error_) error_ = Error(Error::invalid, "cel", located(text_, node.position, why));
  }

  const Ast& ast_;
  const std::string_view text_;
  const KnownVariables& variables_;
  const bool rule_;  ///< of a custom resource: of its metadata only the names may be asked for
  const bool check_;
  std::vector<std::pair<std::string, Known>> scope_;
  std::optional<Error> error_;
  int depth_ = 0;
};
}  // namespace

double elements_max(SchemaRef schema) {
  const bool list = schema.kind() == SchemaKind::list;
  const double bound = bound_of(schema, list ? "maxItems" : "maxProperties");
  if (bound >= 0) return bound;
  // A comma between items; a key with quotes, a colon and a comma between members.
  return kRequestBytes / (bytes_min(schema.element()) + (list ? 1 : 6));
}

namespace {
Result<void> checked(const Ast& ast, std::string_view text, const KnownVariables& variables, bool rule) {
  Inspection inspection(ast, text, variables, rule, true);
  (void)inspection.look(ast.root);
  if (inspection.error()) return *inspection.error();
  return {};
}
}  // namespace

Result<void> check_fields(const Ast& ast, std::string_view text, const KnownVariables& variables) {
  return checked(ast, text, variables, false);
}
Result<void> check_fields(const Ast& ast, std::string_view text, SchemaRef self) {
  return checked(ast, text, {{"self", self}, {"oldSelf", self}}, true);
}

SchemaRef schema_of_result(const Ast& ast, const KnownVariables& variables) {
  return Inspection(ast, {}, variables, false, false).look(ast.root).schema;
}

double estimate_cost(const Ast& ast, SchemaRef self) {
  const KnownVariables variables{{"self", self}, {"oldSelf", self}};
  return Inspection(ast, {}, variables, true, false).look(ast.root).cost;
}

std::string unescaped_field(std::string_view name) {
  if (name.size() > 4 && name.starts_with("__") && name.ends_with("__")) {
    const std::string_view word = name.substr(2, name.size() - 4);
    if (std::find(std::begin(kReserved), std::end(kReserved), word) != std::end(kReserved))
      return std::string(word);
  }
  static constexpr std::pair<std::string_view, std::string_view> kEscapes[] = {
      {"__underscores__", "__"}, {"__dot__", "."}, {"__dash__", "-"}, {"__slash__", "/"}};
  std::string out;
  while (!name.empty()) {
    const auto found = std::find_if(std::begin(kEscapes), std::end(kEscapes),
                                    [&](const auto& escape) { return name.starts_with(escape.first); });
    if (found == std::end(kEscapes)) {
      out += name.front();
      name.remove_prefix(1);
    } else {
      out += found->second;
      name.remove_prefix(found->first.size());
    }
  }
  return out;
}

}  // namespace orchestra::api::cel
