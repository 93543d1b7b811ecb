// From text to tree: cel-spec doc/langdef.md, section "Syntax", by recursive descent.
//
// Macros are expanded here: their variables are names, not expressions. Depth and size are bounded. Message
// construction (Type{...}) is refused: there are no message types in Kubernetes expressions.
#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "api/cel/ast.hpp"

namespace orchestra::api::cel {
namespace {

enum class Token : std::uint8_t { end, ident, integer, uinteger, real, text, bytes, punctuation, bad };

struct Lexeme {
  Token kind = Token::end;
  std::string text;  ///< decoded for strings
  std::uint32_t position = 0;
};

bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool digit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  Lexeme next() {
    skip();
    Lexeme out;
    out.position = static_cast<std::uint32_t>(at_);
    if (at_ >= text_.size()) return out;
    const char c = text_[at_];
    if (string_start()) return string_literal(out);
    if (letter(c)) {
      const std::size_t begin = at_;
      while (at_ < text_.size() && (letter(text_[at_]) || digit(text_[at_]))) ++at_;
      out.kind = Token::ident;
      out.text = text_.substr(begin, at_ - begin);
      return out;
    }
    if (digit(c) || (c == '.' && at_ + 1 < text_.size() && digit(text_[at_ + 1]))) return number(out);
    if (c == '`') {  // escaped identifier
      const std::size_t end = text_.find('`', at_ + 1);
      if (end == std::string_view::npos) return bad(out, "unterminated `");
      out.kind = Token::ident;
      out.text = text_.substr(at_ + 1, end - at_ - 1);
      at_ = end + 1;
      return out;
    }
    out.kind = Token::punctuation;
    for (const char* two : {"&&", "||", "==", "!=", "<=", ">="}) {
      if (text_.substr(at_, 2) == two) {
        at_ += 2;
        out.text = two;
        return out;
      }
    }
    out.text = std::string(1, c);
    ++at_;
    if (std::string_view("()[]{}.,?:+-*/%<>!").find(c) == std::string_view::npos) {
      return bad(out, "token recognition error at: '" + std::string(1, c) + "'");
    }
    return out;
  }

 private:
  static Lexeme bad(Lexeme out, std::string why) {
    out.kind = Token::bad;
    out.text = std::move(why);
    return out;
  }
  void skip() {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f') {
        ++at_;
      } else if (c == '/' && text_.substr(at_, 2) == "//") {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
      } else {
        return;
      }
    }
  }
  // An optional r and b prefix, then a quote.
  bool string_start() const {
    std::size_t i = at_;
    for (int prefix = 0; prefix < 2 && i < text_.size(); ++prefix) {
      const char c = text_[i];
      if (c == 'r' || c == 'R' || c == 'b' || c == 'B') ++i;
    }
    return i < text_.size() && (text_[i] == '"' || text_[i] == '\'');
  }
  Lexeme string_literal(Lexeme out) {
    bool raw = false;
    bool bytes = false;
    while (text_[at_] != '"' && text_[at_] != '\'') {
      raw = raw || text_[at_] == 'r' || text_[at_] == 'R';
      bytes = bytes || text_[at_] == 'b' || text_[at_] == 'B';
      ++at_;
    }
    const char quote = text_[at_];
    const std::string triple(3, quote);
    const bool is_triple = text_.substr(at_, 3) == triple;
    at_ += is_triple ? 3 : 1;
    out.kind = bytes ? Token::bytes : Token::text;
    while (true) {
      if (at_ >= text_.size()) return bad(out, "unterminated string");
      if (is_triple ? text_.substr(at_, 3) == triple : text_[at_] == quote) break;
      if (!is_triple && text_[at_] == '\n') return bad(out, "unterminated string");
      if (raw || text_[at_] != '\\') {
        out.text += text_[at_++];
      } else if (!escape(out.text, bytes)) {
        return bad(out, "broken escape in a string");
      }
    }
    at_ += is_triple ? 3 : 1;
    return out;
  }
  bool escape(std::string& out, bool bytes) {
    ++at_;
    if (at_ >= text_.size()) return false;
    const char c = text_[at_++];
    static constexpr std::string_view kFrom = "abfnrtv\\?\"'`";
    static constexpr std::string_view kTo = "\a\b\f\n\r\t\v\\?\"'`";
    if (const std::size_t i = kFrom.find(c); i != std::string_view::npos) {
      out += kTo[i];
      return true;
    }
    int count = c == 'x' || c == 'X' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    int base = 16;
    if (c >= '0' && c <= '3') {
      --at_;
      count = 3;
      base = 8;
    }
    if (count == 0 || at_ + static_cast<std::size_t>(count) > text_.size()) return false;
    std::uint32_t code = 0;
    const char* begin = text_.data() + at_;
    const auto [end, error] = std::from_chars(begin, begin + count, code, base);
    if (error != std::errc() || end != begin + count) return false;
    at_ += static_cast<std::size_t>(count);
    if (bytes && count <= 3) {
      out += static_cast<char>(code);
      return code < 256;
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return false;
    out += utf8_encode(std::u32string(1, static_cast<char32_t>(code)));
    return true;
  }
  Lexeme number(Lexeme out) {
    const std::size_t begin = at_;
    out.kind = Token::integer;
    if (text_.substr(at_, 2) == "0x" || text_.substr(at_, 2) == "0X") {
      at_ += 2;
      while (at_ < text_.size() && std::isxdigit(static_cast<unsigned char>(text_[at_]))) ++at_;
    } else {
      while (at_ < text_.size() && digit(text_[at_])) ++at_;
      if (at_ + 1 < text_.size() && text_[at_] == '.' && digit(text_[at_ + 1])) {
        out.kind = Token::real;
        ++at_;
        while (at_ < text_.size() && digit(text_[at_])) ++at_;
      }
      if (at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
        std::size_t i = at_ + 1;
        if (i < text_.size() && (text_[i] == '+' || text_[i] == '-')) ++i;
        if (i < text_.size() && digit(text_[i])) {
          out.kind = Token::real;
          while (i < text_.size() && digit(text_[i])) ++i;
          at_ = i;
        }
      }
    }
    out.text = text_.substr(begin, at_ - begin);
    if (at_ < text_.size() && (text_[at_] == 'u' || text_[at_] == 'U') && out.kind == Token::integer) {
      ++at_;
      out.kind = Token::uinteger;
    }
    return out;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

constexpr std::string_view kReserved[] = {"as",        "break",  "const",  "continue", "else", "for",
                                          "function",  "if",     "import", "let",      "loop", "package",
                                          "namespace", "return", "var",    "void",     "while"};

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text), lexer_(text) { advance(); }

  Result<Ast> run() {
    const std::uint32_t root = expression();
    if (error_.empty() && token_.kind != Token::end) fail("unexpected '" + token_.text + "'");
    if (!error_.empty())
      return Error(Error::invalid, "cel", located(text_, where_, "Syntax error: " + error_));
    ast_.root = root;
    return std::move(ast_);
  }

 private:
  void advance() {
    token_ = lexer_.next();
    if (token_.kind == Token::bad) fail(token_.text);
  }
  void fail(const std::string& why) {
    if (!error_.empty()) return;
    error_ = why;
    where_ = token_.position;
  }
  bool is(std::string_view text) const { return token_.kind == Token::punctuation && token_.text == text; }
  bool take(std::string_view text) {
    if (!is(text)) return false;
    advance();
    return true;
  }
  void expect(std::string_view text) {
    if (!take(text))
      fail("expected '" + std::string(text) + "', not '" +
           (token_.kind == Token::end ? "<EOF>" : token_.text) + "'");
  }
  std::uint32_t add(Node node) {
    ast_.nodes.push_back(std::move(node));
    return static_cast<std::uint32_t>(ast_.nodes.size() - 1);
  }
  std::uint32_t call(std::string name, std::uint32_t position, std::vector<std::uint32_t> children,
                     bool method = false) {
    Node node;
    node.kind = NodeKind::call;
    node.text = std::move(name);
    node.position = position;
    node.children = std::move(children);
    node.method = method;
    return add(std::move(node));
  }
  std::uint32_t literal(Value value, std::uint32_t position) {
    Node node;
    node.literal = std::move(value);
    node.position = position;
    return add(std::move(node));
  }
  std::uint32_t pair(NodeKind kind, std::uint32_t position, std::vector<std::uint32_t> children) {
    Node node;
    node.kind = kind;
    node.position = position;
    node.children = std::move(children);
    return add(std::move(node));
  }

  std::uint32_t expression() {
    if (!error_.empty()) return 0;
    if (++depth_ > kDepthMax) {
      fail("the expression nests deeper than 200");
      --depth_;
      return 0;
    }
    std::uint32_t left = disjunction();
    if (is("?")) {
      const std::uint32_t position = token_.position;
      advance();
      const std::uint32_t yes = disjunction();
      expect(":");
      const std::uint32_t no = expression();
      left = pair(NodeKind::conditional, position, {left, yes, no});
    }
    --depth_;
    return left;
  }
  std::uint32_t disjunction() {
    std::uint32_t left = conjunction();
    while (error_.empty() && is("||")) {
      const std::uint32_t position = token_.position;
      advance();
      const std::uint32_t right = conjunction();
      left = pair(NodeKind::logic_or, position, {left, right});
    }
    return left;
  }
  std::uint32_t conjunction() {
    std::uint32_t left = relation();
    while (error_.empty() && is("&&")) {
      const std::uint32_t position = token_.position;
      advance();
      const std::uint32_t right = relation();
      left = pair(NodeKind::logic_and, position, {left, right});
    }
    return left;
  }
  std::uint32_t relation() {
    std::uint32_t left = addition();
    while (error_.empty()) {
      const bool in = token_.kind == Token::ident && token_.text == "in";
      if (!in && !is("<") && !is("<=") && !is(">") && !is(">=") && !is("==") && !is("!=")) break;
      const std::uint32_t position = token_.position;
      const std::string name = in ? "_in_" : "_" + token_.text + "_";
      advance();
      const std::uint32_t right = addition();
      left = call(name, position, {left, right});
    }
    return left;
  }
  std::uint32_t addition() {
    std::uint32_t left = multiplication();
    while (error_.empty() && (is("+") || is("-"))) {
      const std::uint32_t position = token_.position;
      const std::string name = "_" + token_.text + "_";
      advance();
      const std::uint32_t right = multiplication();
      left = call(name, position, {left, right});
    }
    return left;
  }
  std::uint32_t multiplication() {
    std::uint32_t left = unary();
    while (error_.empty() && (is("*") || is("/") || is("%"))) {
      const std::uint32_t position = token_.position;
      const std::string name = "_" + token_.text + "_";
      advance();
      const std::uint32_t right = unary();
      left = call(name, position, {left, right});
    }
    return left;
  }
  std::uint32_t unary() {
    if (!error_.empty()) return 0;
    if (!is("!") && !is("-")) return postfix();
    if (++depth_ > kDepthMax) {
      fail("the expression nests deeper than 200");
      --depth_;
      return 0;
    }
    const std::uint32_t position = token_.position;
    const bool negative = is("-");
    advance();
    std::uint32_t out = 0;
    if (negative && (token_.kind == Token::integer || token_.kind == Token::real)) {
      token_.text = "-" + token_.text;
      out = postfix();
    } else {
      out = call(negative ? "-_" : "!_", position, {unary()});
    }
    --depth_;
    return out;
  }

  std::uint32_t postfix() {
    std::uint32_t left = primary();
    while (error_.empty()) {
      const std::uint32_t position = token_.position;
      if (take(".")) {
        const bool optional = take("?");
        if (token_.kind != Token::ident) {
          fail("a field name is expected");
          break;
        }
        const std::string name = token_.text;
        advance();
        if (!optional && is("(")) {
          left = method_call(left, name, position);
        } else {
          Node node;
          node.kind = NodeKind::select;
          node.text = name;
          node.position = position;
          node.optional = optional;
          node.children = {left};
          left = add(std::move(node));
        }
      } else if (take("[")) {
        Node node;
        node.kind = NodeKind::index;
        node.position = position;
        node.optional = take("?");
        node.children = {left, expression()};
        expect("]");
        left = add(std::move(node));
      } else if (is("{")) {
        fail("message construction is not supported");
      } else {
        break;
      }
    }
    return left;
  }

  std::vector<std::uint32_t> arguments() {
    std::vector<std::uint32_t> out;
    expect("(");
    while (error_.empty() && !is(")")) {
      out.push_back(expression());
      if (!take(",")) break;
    }
    expect(")");
    return out;
  }

  // The name of a macro's variable; empty: not a plain name.
  std::string name_of(std::uint32_t index) const {
    const Node& node = ast_.nodes[index];
    return node.kind == NodeKind::ident ? node.text : std::string();
  }

  std::uint32_t method_call(std::uint32_t receiver, const std::string& name, std::uint32_t position) {
    std::vector<std::uint32_t> args = arguments();
    if (!error_.empty()) return 0;
    if (ast_.nodes[receiver].kind == NodeKind::ident && ast_.nodes[receiver].text == "cel" &&
        name == "bind" && args.size() == 3) {
      return comprehension(NodeKind::bind, name, position, {args[1], args[2]}, {args[0]});
    }
    struct Macro {
      const char* name;
      std::size_t arguments, variables;
    };
    static constexpr Macro kMacros[] = {
        {"all", 2, 1},          {"exists", 2, 1},        {"exists_one", 2, 1},    {"map", 2, 1},
        {"map", 3, 1},          {"filter", 2, 1},        {"all", 3, 2},           {"exists", 3, 2},
        {"existsOne", 3, 2},    {"transformList", 3, 2}, {"transformList", 4, 2}, {"transformMap", 3, 2},
        {"transformMap", 4, 2}, {"optMap", 2, 1},        {"optFlatMap", 2, 1},    {"existsOne", 2, 1}};
    for (const Macro& macro : kMacros) {
      if (name != macro.name || args.size() != macro.arguments) continue;
      std::vector<std::uint32_t> parts{receiver};
      parts.insert(parts.end(), args.begin() + static_cast<long>(macro.variables), args.end());
      return comprehension(NodeKind::macro, name, position, std::move(parts),
                           {args.begin(), args.begin() + static_cast<long>(macro.variables)});
    }
    // Namespaced functions: sets.contains(a, b), optional.of(x), ip.isCanonical(s), format.named(s) ...
    if (ast_.nodes[receiver].kind == NodeKind::ident) {
      const std::string full = ast_.nodes[receiver].text + "." + name;
      if (is_function(full)) return call(full, position, std::move(args));
    }
    args.insert(args.begin(), receiver);
    return call(name, position, std::move(args), true);
  }

  std::uint32_t comprehension(NodeKind kind, const std::string& name, std::uint32_t position,
                              std::vector<std::uint32_t> parts, const std::vector<std::uint32_t>& variables) {
    Node node;
    node.kind = kind;
    node.text = name;
    node.position = position;
    node.children = std::move(parts);
    for (const std::uint32_t variable : variables) {
      node.names.push_back(name_of(variable));
      if (node.names.back().empty()) fail("argument of " + name + " must be a simple name");
    }
    return add(std::move(node));
  }

  std::uint32_t primary() {
    const Lexeme token = token_;
    if (!error_.empty()) return 0;
    switch (token.kind) {
      case Token::integer:
      case Token::uinteger:
      case Token::real:
        advance();
        return number(token);
      case Token::text:
        advance();
        return literal(Value(token.text), token.position);
      case Token::bytes:
        advance();
        return literal(Value(Bytes{token.text}), token.position);
      case Token::ident:
        return identifier(token);
      default:
        break;
    }
    if (take("(")) {
      const std::uint32_t inner = expression();
      expect(")");
      return inner;
    }
    if (take(".")) return primary();  // an absolute name
    if (take("[")) return list(token.position);
    if (take("{")) return map(token.position);
    fail(token.kind == Token::end ? "mismatched input '<EOF>'" : "mismatched input '" + token.text + "'");
    return 0;
  }

  std::uint32_t number(const Lexeme& token) {
    if (token.kind == Token::real)
      return literal(Value(std::strtod(token.text.c_str(), nullptr)), token.position);
    const bool negative = token.text.starts_with('-');
    std::string_view text = std::string_view(token.text).substr(negative ? 1 : 0);
    int base = 10;
    if (text.starts_with("0x") || text.starts_with("0X")) {
      base = 16;
      text.remove_prefix(2);
    }
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    const std::uint64_t limit = std::uint64_t{1} << 63;
    const bool fits = token.kind == Token::uinteger || value < limit || (negative && value == limit);
    if (error != std::errc() || end != text.data() + text.size() || !fits) {
      fail("invalid number " + token.text);
      return 0;
    }
    if (token.kind == Token::uinteger) return literal(Value(value), token.position);
    return literal(Value(static_cast<std::int64_t>(negative ? 0 - value : value)), token.position);
  }

  std::uint32_t identifier(const Lexeme& token) {
    advance();
    if (token.text == "true" || token.text == "false")
      return literal(Value(token.text == "true"), token.position);
    if (token.text == "null") return literal(Value(Null{}), token.position);
    if (std::find(std::begin(kReserved), std::end(kReserved), token.text) != std::end(kReserved) ||
        token.text == "in") {
      token_ = token;
      fail("reserved identifier: " + token.text);
      return 0;
    }
    if (!is("(")) {
      Node node;
      node.kind = NodeKind::ident;
      node.text = token.text;
      node.position = token.position;
      return add(std::move(node));
    }
    std::vector<std::uint32_t> args = arguments();
    if (token.text != "has" || !error_.empty()) return call(token.text, token.position, std::move(args));
    if (args.size() != 1 || ast_.nodes[args[0]].kind != NodeKind::select || ast_.nodes[args[0]].optional) {
      fail("invalid argument to has() macro");
      return 0;
    }
    ast_.nodes[args[0]].kind = NodeKind::test;
    return args[0];
  }

  std::uint32_t list(std::uint32_t position) {
    Node node;
    node.kind = NodeKind::list;
    node.position = position;
    while (error_.empty() && !is("]")) {
      node.optional_parts.push_back(take("?"));
      node.children.push_back(expression());
      if (!take(",")) break;
    }
    expect("]");
    return add(std::move(node));
  }
  std::uint32_t map(std::uint32_t position) {
    Node node;
    node.kind = NodeKind::map;
    node.position = position;
    while (error_.empty() && !is("}")) {
      node.optional_parts.push_back(take("?"));
      node.children.push_back(expression());
      expect(":");
      node.children.push_back(expression());
      if (!take(",")) break;
    }
    expect("}");
    return add(std::move(node));
  }

  std::string_view text_;
  Lexer lexer_;
  Lexeme token_;
  Ast ast_;
  std::string error_;
  std::uint32_t where_ = 0;
  int depth_ = 0;
};

class Checker {
 public:
  Checker(const Ast& ast, std::string_view text, std::vector<std::string> scope)
      : ast_(ast), text_(text), scope_(std::move(scope)) {}

  void visit(std::uint32_t index) {
    const Node& node = ast_.nodes[index];
    switch (node.kind) {
      case NodeKind::ident:
        if (std::find(scope_.begin(), scope_.end(), node.text) == scope_.end() && !is_type(node.text)) {
          complain(node, "undeclared reference to '" + node.text + "' (in container '')");
        }
        return;
      case NodeKind::call:
        if (!(node.method ? is_method(node.text) : is_function(node.text))) {
          complain(node, "undeclared reference to '" + node.text + "' (in container '')");
        }
        for (const std::uint32_t child : node.children) visit(child);
        return;
      case NodeKind::macro:
      case NodeKind::bind: {
        visit(node.children[0]);
        const std::size_t before = scope_.size();
        scope_.insert(scope_.end(), node.names.begin(), node.names.end());
        for (std::size_t i = 1; i < node.children.size(); ++i) visit(node.children[i]);
        scope_.resize(before);
        return;
      }
      default:
        for (const std::uint32_t child : node.children) visit(child);
    }
  }
  std::string problems;

 private:
  static bool is_type(const std::string& name) {
    static constexpr std::string_view kTypes[] = {"int",   "uint", "double", "bool",      "string",
                                                  "bytes", "list", "map",    "null_type", "type"};
    return std::find(std::begin(kTypes), std::end(kTypes), name) != std::end(kTypes);
  }
  void complain(const Node& node, const std::string& why) {
    problems += (problems.empty() ? "" : "\n") + located(text_, node.position, why);
  }
  const Ast& ast_;
  std::string_view text_;
  std::vector<std::string> scope_;
};
}  // namespace

std::string located(std::string_view text, std::uint32_t position, const std::string& why) {
  const std::string_view before = text.substr(0, position);
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const std::size_t start = before.rfind('\n');
  const std::size_t column = position - (start == std::string_view::npos ? 0 : start + 1) + 1;
  return "ERROR: <input>:" + std::to_string(line) + ":" + std::to_string(column) + ": " + why;
}

Result<Ast> parse(std::string_view text) {
  if (text.size() > kExpressionBytesMax) {
    return Error(Error::invalid, "cel", "the expression is longer than 100,000 bytes");
  }
  return Parser(text).run();
}

Result<void> check(const Ast& ast, std::string_view text, const std::vector<std::string>& variables) {
  Checker checker(ast, text, variables);
  checker.visit(ast.root);
  if (checker.problems.empty()) return {};
  return Error(Error::invalid, "cel", checker.problems);
}

}  // namespace orchestra::api::cel
