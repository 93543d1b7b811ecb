// CEL: every function of the libraries that Kubernetes has, the language itself, errors, costs.
#include "api/cel/program.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::api;

namespace {
const json::value kSelf =
    parse_json(R"({"a":1,"b":{"c":"x","d":[1,2,3]},"list":[{"n":"p","v":1},{"n":"q","v":2}],
  "empty":[],"text":"héllo","f":1.5,"yes":true,"null":null,"map":{"k":"v","l":"w"}})")
        .value();

cel::Value run(const std::string& text, std::uint64_t budget = cel::kCallBudget,
               std::uint64_t* cost = nullptr) {
  auto program = cel::Program::compile(text, {"self", "authorizer"});
  REQUIRE_MESSAGE(program, text << ": " << (program ? "" : program.error().message()));
  cel::Context context;
  context.budget = budget;
  context.authorize = [](const cel::AccessQuery& query) {
    return std::pair(query.verb == "get" && (query.resource == "pods" || query.path == "/healthz"),
                     std::string("because"));
  };
  cel::Value out =
      program->evaluate({{"self", cel::from_json(kSelf)}, {"authorizer", cel::AccessQuery{}}}, context);
  if (cost != nullptr) *cost = context.cost;
  return out;
}
bool holds(const std::string& text) {
  const cel::Value out = run(text);
  if (const auto* failed = out.as<cel::Failure>()) {
    MESSAGE(text << " -> " << failed->message);
    return false;
  }
  const bool* yes = out.as<bool>();
  return yes != nullptr && *yes;
}
std::string problem(const std::string& text) {
  const cel::Value out = run(text);
  const auto* failed = out.as<cel::Failure>();
  return failed == nullptr ? "no error" : failed->message;
}
std::string refusal(const std::string& text) {
  auto program = cel::Program::compile(text, {"self"});
  return program ? "compiles" : program.error().message();
}
}  // namespace

TEST_CASE("every function of the libraries exists and answers") {
  // One line per function of the issue's table: library, expression that is true.
  static const std::pair<const char*, const char*> kTable[] = {
      {"standard", "size('héllo') == 5 && size([1]) == 1 && {'a': 1}.size() == 1 && size(b'ab') == 2"},
      {"standard", "int('7') == 7 && int(7.9) == 7 && int(3u) == 3"},
      {"standard",
       "uint(3) == 3u && double('1.5') == 1.5 && string(1) == '1' && bytes('a') == b'a' && bool('true')"},
      {"standard", "timestamp('2024-05-06T07:08:09Z').getFullYear() == 2024"},
      {"standard",
       "timestamp('2024-05-06T07:08:09Z').getMonth() == 4 && timestamp('2024-05-06T07:08:09Z').getDate() == "
       "6"},
      {"standard",
       "timestamp('2024-05-06T07:08:09Z').getDayOfMonth() == 5 && "
       "timestamp('2024-05-06T07:08:09Z').getDayOfWeek() == 1"},
      {"standard", "timestamp('2024-05-06T07:08:09Z').getDayOfYear() == 126"},
      {"standard",
       "timestamp('2024-05-06T07:08:09Z').getHours() == 7 && "
       "timestamp('2024-05-06T07:08:09Z').getHours('+02:00') == 9"},
      {"standard",
       "timestamp('2024-05-06T07:08:09.25Z').getMilliseconds() == 250 && duration('90s').getMinutes() == 1"},
      {"standard", "duration('1h30m') == duration('5400s') && duration('90s').getSeconds() == 90"},
      {"standard",
       "timestamp('2024-01-01T00:00:00Z') + duration('24h') == timestamp('2024-01-02T00:00:00Z')"},
      {"standard",
       "type(1) == int && type('a') == string && type([]) == list && type({}) == map && type(null) == "
       "null_type"},
      {"standard", "dyn(1) == 1.0 && 'a' in ['a', 'b'] && 'k' in self.map && !('z' in self.map)"},
      {"macros", "[1, 2].all(x, x > 0) && [1, 2].exists(x, x == 2) && [1, 2].exists_one(x, x == 2)"},
      {"macros",
       "[1, 2].map(x, x * 2) == [2, 4] && [1, 2, 3].map(x, x > 1, x * 2) == [4, 6] && [1, 2].filter(x, x > "
       "1) == [2]"},
      {"macros", "self.map.all(k, k != '') && has(self.b.c) && !has(self.b.zz)"},
      {"macros", "cel.bind(x, self.a + 1, x * x == 4)"},
      {"two variables", "['a', 'b'].all(i, v, i < 2 && v != '') && self.map.exists(k, v, v == 'w')"},
      {"two variables",
       "['a', 'b'].transformList(i, v, string(i) + v) == ['0a', '1b'] && ['a', 'b'].existsOne(i, v, v == "
       "'a')"},
      {"two variables", "self.map.transformMap(k, v, v + '!') == {'k': 'v!', 'l': 'w!'}"},
      {"strings",
       "'abc'.charAt(1) == 'b' && 'héllo'.indexOf('l') == 2 && 'abab'.lastIndexOf('b') == 3 && "
       "'abc'.indexOf('z') == -1"},
      {"strings", "'AbC'.lowerAscii() == 'abc' && 'abC'.upperAscii() == 'ABC' && ' a '.trim() == 'a'"},
      {"strings", "'aXbX'.replace('X', '-') == 'a-b-' && 'aXbX'.replace('X', '-', 1) == 'a-bX'"},
      {"strings",
       "'a,b,c'.split(',') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c'] && 'ab'.split('') == "
       "['a', 'b']"},
      {"strings",
       "'héllo'.substring(1, 3) == 'él' && 'abc'.substring(1) == 'bc' && ['a', 'b'].join('-') == 'a-b' && "
       "['a', 'b'].join() == 'ab'"},
      {"strings", "'%s is %d, %.2f %x %b'.format(['a', 7, 1.5, 255, 5]) == 'a is 7, 1.50 ff 101'"},
      {"strings", "'%s'.format([[1, 'a', true]]) == '[1, a, true]' && strings.quote('a\"') == '\"a\\\\\"\"'"},
      {"strings",
       "'abc'.contains('b') && 'abc'.startsWith('a') && 'abc'.endsWith('c') && 'abc'.reverse() == 'cba'"},
      {"regex",
       "'abc 123'.find('[0-9]+') == '123' && 'a1b22'.findAll('[0-9]+') == ['1', '22'] && "
       "'a1b22'.findAll('[0-9]+', 1) == ['1']"},
      {"regex", "'abc'.matches('^a.c$') && matches('abc', 'b') && !'abc'.matches('^b')"},
      {"lists", "[1, 2, 2].isSorted() && ![2, 1].isSorted() && [1, 2].sum() == 3 && [1.5, 2.0].sum() == 3.5"},
      {"lists",
       "[3, 1, 2].min() == 1 && [3, 1, 2].max() == 3 && [1, 2, 1].indexOf(1) == 0 && [1, 2, "
       "1].lastIndexOf(1) == 2"},
      {"lists",
       "[1, 1, 2].distinct() == [1, 2] && [1, 2, 3].slice(1, 3) == [2, 3] && [2, 1].sort() == [1, 2] && "
       "[[1], [2]].flatten() == [1, 2]"},
      {"lists", "[1, 2].reverse() == [2, 1] && lists.range(3) == [0, 1, 2]"},
      {"sets",
       "sets.contains([1, 2, 3], [2]) && sets.equivalent([1, 1, 2], [2, 1]) && sets.intersects([1, 2], [2, "
       "3])"},
      {"sets", "!sets.contains([1], [2]) && !sets.intersects([1], [2])"},
      {"url",
       "isURL('https://user@example.com:8080/p%20a?x=1&x=2') && !isURL('nonsense') && isURL('/absolute')"},
      {"url",
       "url('https://example.com:80/path').getScheme() == 'https' && "
       "url('https://example.com:80/').getHost() == 'example.com:80'"},
      {"url",
       "url('https://[::1]:80/').getHostname() == '::1' && url('https://example.com:80/').getPort() == '80'"},
      {"url",
       "url('https://e.com/p%20a?x=1').getEscapedPath() == '/p%20a' && "
       "url('https://e.com/?x=1&x=2&y=a%20b').getQuery() == {'x': ['1', '2'], 'y': ['a b']}"},
      {"quantity", "isQuantity('1.5Gi') && !isQuantity('1.5 Gi') && quantity('1Gi') == quantity('1024Mi')"},
      {"quantity",
       "quantity('50k').add(quantity('20k')) == quantity('70k') && quantity('50k').sub(20000) == "
       "quantity('30k')"},
      {"quantity",
       "quantity('1').isLessThan(quantity('2')) && quantity('2').isGreaterThan(quantity('1')) && "
       "quantity('2').compareTo(quantity('2')) == 0"},
      {"quantity",
       "quantity('-1').sign() == -1 && quantity('1k').isInteger() && !quantity('1500m').isInteger() && "
       "quantity('1k').asInteger() == 1000"},
      {"quantity", "quantity('1500m').asApproximateFloat() == 1.5"},
      {"ip", "isIP('127.0.0.1') && isIP('::1') && !isIP('256.0.0.1') && !isIP('::ffff:1.2.3.4')"},
      {"ip",
       "ip('127.0.0.1').family() == 4 && ip('::1').family() == 6 && ip('127.0.0.1').isLoopback() && "
       "ip('0.0.0.0').isUnspecified()"},
      {"ip",
       "ip('224.0.0.1').isLinkLocalMulticast() && ip('169.254.1.1').isLinkLocalUnicast() && "
       "ip('8.8.8.8').isGlobalUnicast()"},
      {"ip", "ip.isCanonical('2001:db8::1') && !ip.isCanonical('2001:DB8::1') && string(ip('::1')) == '::1'"},
      {"cidr",
       "isCIDR('10.0.0.0/8') && !isCIDR('10.0.0.0/33') && cidr('10.0.0.0/8').containsIP('10.1.2.3') && "
       "cidr('10.0.0.0/8').containsIP(ip('10.1.2.3'))"},
      {"cidr",
       "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && "
       "!cidr('10.1.0.0/16').containsCIDR(cidr('10.0.0.0/8'))"},
      {"cidr",
       "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('10.0.0.0/8').prefixLength() == 8 && "
       "cidr('10.0.0.0/8').ip() == ip('10.0.0.0')"},
      {"format",
       "!format.dns1123Label().validate('abc').hasValue() && format.dns1123Label().validate('A').hasValue()"},
      {"format", "format.named('uuid').value().validate('x').hasValue() && !format.named('zz').hasValue()"},
      {"format",
       "!format.dns1123Subdomain().validate('a.b').hasValue() && "
       "!format.dns1035Label().validate('a1').hasValue() && "
       "!format.qualifiedName().validate('a/b').hasValue()"},
      {"format",
       "!format.dns1123LabelPrefix().validate('a-').hasValue() && "
       "!format.dns1123SubdomainPrefix().validate('a.b-').hasValue() && "
       "!format.dns1035LabelPrefix().validate('a-').hasValue()"},
      {"format",
       "!format.labelValue().validate('').hasValue() && !format.uri().validate('https://a/').hasValue() && "
       "!format.byte().validate('YQ==').hasValue()"},
      {"format",
       "!format.uuid().validate('123e4567-e89b-12d3-a456-426614174000').hasValue() && "
       "!format.date().validate('2024-01-02').hasValue() && "
       "!format.datetime().validate('2024-01-02T03:04:05Z').hasValue()"},
      {"optional",
       "self.?b.c.orValue('z') == 'x' && self.?zz.orValue('z') == 'z' && !self.?zz.hasValue() && "
       "optional.of(1).value() == 1"},
      {"optional",
       "optional.none().or(optional.of(2)).value() == 2 && optional.ofNonZeroValue('').hasValue() == false"},
      {"optional",
       "self.?a.optMap(x, x + 1).value() == 2 && self.?a.optFlatMap(x, optional.of(x)).hasValue()"},
      {"optional",
       "[?self.?zz, 1] == [1] && {?'a': self.?zz} == {} && self.list[?5].hasValue() == false && "
       "self.?zz.?y.hasValue() == false"},
      {"authorizer", "authorizer.group('').resource('pods').namespace('n').name('x').check('get').allowed()"},
      {"authorizer",
       "!authorizer.group('').resource('pods').subresource('exec').check('create').allowed() && "
       "authorizer.path('/healthz').check('get').allowed()"},
      {"authorizer",
       "authorizer.serviceAccount('ns', 'sa').group('').resource('pods').check('get').reason() == 'because'"},
      {"authorizer",
       "!authorizer.path('/x').check('get').errored() && authorizer.path('/x').check('get').error() == "
       "''"},
  };
  for (const auto& [library, expression] : kTable) {
    CAPTURE(library);
    CHECK_MESSAGE(holds(expression), expression);
  }
}

TEST_CASE("the language: numbers, text, order, errors that are absorbed") {
  for (const char* text : {
           "1 + 2 * 3 == 7 && (1 + 2) * 3 == 9 && -7 / 2 == -3 && -7 % 2 == -1 && 7u % 2u == 1u",
           "1 == 1.0 && 1u == 1 && 1 < 1.5 && 2u > 1 && 0x1F == 31 && 1e3 == 1000.0 && -1 < 1u",
           "'a' + 'b' == 'ab' && [1] + [2] == [1, 2] && 'a' < 'b' && b'a' < b'b' && false < true",
           R"('\u00e9' == 'é' && r'\n' == '\\n' && '''a"b''' == 'a"b' && "\x41" == 'A' && '\101' == 'A')",
           "true ? 1 == 1 : 1 / 0 == 0",
           "false && (1 / 0 == 0) == false || true",
           "(1 / 0 == 0 || true) && !(1 / 0 == 0 && false)",
           "[0, 1].exists(x, x == 1 || 1 / x == 0) && ![1, 0].all(x, x == 0 && 1 / x == 1)",
           "self.list[0].n == 'p' && self['a'] == 1 && self.b.d[2] == 3 && self.list.map(x, x.v).sum() == 3",
           "self.null == null && self.f == 1.5 && self.yes && size(self.text) == 5 && self.empty == []",
           "{'a': 1, 'b': [2]} == {'b': [2], 'a': 1} && {1: 'x'}[1] == 'x' && {true: 1}[true] == 1",
           "1 in [1.0] && !(1 in []) && // comment\n true",
           "self.list.filter(x, x.v > 1).map(x, x.n) == ['q']",
       }) {
    CHECK_MESSAGE(holds(text), text);
  }
  CHECK(problem("1 / 0") == "division by zero");
  CHECK(problem("9223372036854775807 + 1") == "integer overflow");
  CHECK(problem("self.zz") == "no such key: zz");
  CHECK(problem("self.list[9]") == "index out of bounds: 9");
  CHECK(problem("1 + 'a'").find("no such overload") == 0);
  CHECK(problem("1 && true").find("no such overload") == 0);
  CHECK(problem("'('.matches('(')").find("error parsing regexp") == 0);
  CHECK(problem("optional.none().value()") == "optional.none() dereference");
}

TEST_CASE("what does not compile says where and why") {
  CHECK(refusal("self.a +") == "ERROR: <input>:1:9: Syntax error: mismatched input '<EOF>'");
  CHECK(refusal("self.a == zz") == "ERROR: <input>:1:11: undeclared reference to 'zz' (in container '')");
  CHECK(refusal("\n  self.nofunc()") ==
        "ERROR: <input>:2:7: undeclared reference to 'nofunc' (in container '')");
  CHECK(refusal("has(self)").find("invalid argument to has() macro") != std::string::npos);
  CHECK(refusal("[1].all(1, true)").find("must be a simple name") != std::string::npos);
  CHECK(refusal("while").find("reserved identifier") != std::string::npos);
  CHECK(refusal("'abc").find("unterminated string") != std::string::npos);
  CHECK(refusal("Type{a: 1}").find("message construction is not supported") != std::string::npos);
  CHECK(refusal("99999999999999999999").find("invalid number") != std::string::npos);
  CHECK(refusal(std::string(1000, '(')).find("nests deeper than 200") != std::string::npos);
  CHECK(refusal(std::string(1000, '!') + "true").find("nests deeper than 200") != std::string::npos);
  CHECK(refusal(std::string(200'000, ' ')).find("longer than 100,000") != std::string::npos);
  CHECK(refusal("") != "compiles");
}

TEST_CASE("an expression over its budget ends with an error, whatever it nests") {
  std::uint64_t cost = 0;
  CHECK(holds("true"));
  (void)run("[1, 2, 3].map(x, x)", cel::kCallBudget, &cost);
  CHECK(cost > 5);
  CHECK(cost < 50);
  const std::string nested =
      "lists.range(1000).all(a, lists.range(1000).all(b, lists.range(1000).all(c, a + b + c >= 0)))";
  const cel::Value out = run(nested, 100'000, &cost);
  REQUIRE(out.as<cel::Failure>() != nullptr);
  CHECK(out.as<cel::Failure>()->over_budget);
  CHECK(cost < 200'000);
  const cel::Value grown =
      run("lists.range(40).map(x, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa').join().replace('a', "
          "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa').replace('a', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa').size() > 0",
          20'000);
  CHECK(grown.failed());
  CHECK(run("(true || 1 / 0 == 0) || lists.range(100000).all(x, true)", 100).as<bool>() != nullptr);
}

TEST_CASE("rules of custom resources: transitions, messages, reasons, budget") {
  const json::value rules = parse_json(R"([
    {"rule": "self.min <= self.max", "message": "min must not exceed max", "fieldPath": ".min"},
    {"rule": "self.name == oldSelf.name", "reason": "FieldValueForbidden", "messageExpression": "'name was ' + oldSelf.name"},
    {"rule": "!oldSelf.hasValue() || self.max >= oldSelf.value().max", "optionalOldSelf": true},
    {"rule": "self.nothing == 1"}])")
                                .value();
  const json::value good = parse_json(R"({"min": 1, "max": 2, "name": "a", "nothing": 1})").value();
  const json::value bad = parse_json(R"({"min": 3, "max": 1, "name": "b"})").value();
  const auto check = [&](const json::value& self, const json::value* old,
                         std::uint64_t budget = cel::kTotalBudget) {
    FieldErrors errors;
    const FieldPath spec("spec");
    (void)cel::validate_rules(rules.get_array(), {.schema = {}, .self = &self, .old = old}, spec, budget,
                              errors);
    std::string out;
    for (const FieldError& error : errors)
      out += error.path + "|" + error.detail + "|" + error.reason() + "\n";
    return out;
  };
  CHECK(check(good, nullptr) == "");
  CHECK(check(bad, &good) ==
        "spec.min|min must not exceed max|FieldValueInvalid\n"
        "spec|name was a|FieldValueForbidden\n"
        "spec|failed rule: !oldSelf.hasValue() || self.max >= oldSelf.value().max|FieldValueInvalid\n"
        "spec|no such key: nothing evaluating rule: self.nothing == "
        "1|FieldValueInvalid\n");
  CHECK(check(good, nullptr, 3).find("running out of cost budget") != std::string::npos);
  FieldErrors errors;
  const json::value broken = parse_json(R"([{"rule": "self ="}, {"rule": ""}])").value();
  double total = 0;
  cel::check_rules(broken.get_array(), {}, FieldPath("x"), total, errors);
  REQUIRE(errors.size() == 2);
  CHECK(errors.all()[0].path == "x[0].rule");
}
