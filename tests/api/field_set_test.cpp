#include "api/apply/field_set.hpp"

#include "api/apply/managed_fields.hpp"
#include "base/json.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::api;

namespace {
FieldSet set_of(const std::string& text) { return FieldSet::from_json(parse_json(text).value()).value(); }
/// By way of a tree and directly, and read back.
std::string text_of(const FieldSet& set) {
  const std::string text = to_json(set.to_json());
  std::string printed;
  set.print(printed);
  CHECK(printed == text);
  std::string_view rest = printed;
  const auto again = FieldSet::take_printed(rest);
  REQUIRE(again);
  CHECK(rest.empty());
  CHECK(to_json(again->to_json()) == text);
  return text;
}
}  // namespace

TEST_CASE("field sets: names, keys, values, indexes; numbers by size, words by bytes") {
  struct Row {
    std::string given, sorted;
  };
  const std::vector<Row> rows = {
      {R"({"i:10":{},"v:\"b\"":{},"k:{\"name\":\"x\"}":{},"f:b":{},"f:a":{},"i:9":{},"v:\"a\"":{}})",
       R"({"f:a":{},"f:b":{},"k:{\"name\":\"x\"}":{},"v:\"a\"":{},"v:\"b\"":{},"i:9":{},"i:10":{}})"},
      {R"({"k:{\"containerPort\":8080,\"protocol\":\"TCP\"}":{},"k:{\"containerPort\":443,\"protocol\":\"UDP\"}":{},"k:{\"containerPort\":443,\"protocol\":\"TCP\"}":{}})",
       R"({"k:{\"containerPort\":443,\"protocol\":\"TCP\"}":{},"k:{\"containerPort\":443,\"protocol\":\"UDP\"}":{},"k:{\"containerPort\":8080,\"protocol\":\"TCP\"}":{}})"},
      // In a word digits are bytes.
      {R"({"k:{\"name\":\"a:9\"}":{},"k:{\"name\":\"a:10\"}":{}})",
       R"({"k:{\"name\":\"a:10\"}":{},"k:{\"name\":\"a:9\"}":{}})"},
      {R"({"v:2":{},"v:-10":{},"v:10":{},"v:1.5":{}})", R"({"v:-10":{},"v:1.5":{},"v:2":{},"v:10":{}})"},
      // Keys are brought into order, white space goes.
      {R"({"k:{ \"protocol\": \"TCP\", \"port\": 1 }":{}})", R"({"k:{\"port\":1,\"protocol\":\"TCP\"}":{}})"},
      // One path twice is one.
      {R"({"k:{\"a\":1}":{"f:x":{}},"k:{ \"a\":1}":{"f:y":{}}})", R"({"k:{\"a\":1}":{"f:x":{},"f:y":{}}})"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.given);
    CHECK(text_of(set_of(row.given)) == row.sorted);
  }
  for (const char* wrong :
       {R"({"x:a":{}})", R"({"f":{}})", R"({"k:[1]":{}})", R"({"i:a":{}})", R"({"f:a":1})"}) {
    CAPTURE(wrong);
    CHECK_FALSE(FieldSet::from_json(parse_json(wrong).value()));
  }
}

TEST_CASE("field sets: united, common, without, contains") {
  const FieldSet a = set_of(R"({"f:a":{},"f:m":{".":{},"f:x":{},"f:y":{}},"f:z":{}})");
  const FieldSet b = set_of(R"({"f:b":{},"f:m":{"f:y":{},"f:w":{}},"f:z":{}})");
  CHECK(text_of(FieldSet::united(a, b)) ==
        R"({"f:a":{},"f:b":{},"f:m":{".":{},"f:w":{},"f:x":{},"f:y":{}},"f:z":{}})");
  CHECK(text_of(FieldSet::common(a, b)) == R"({"f:m":{"f:y":{}},"f:z":{}})");
  CHECK(text_of(FieldSet::without(a, b)) == R"({"f:a":{},"f:m":{".":{},"f:x":{}}})");
  CHECK(FieldSet::without(a, a).empty());
  CHECK(a.contains(FieldSet::common(a, b)));
  CHECK_FALSE(a.contains(b));
  CHECK(FieldSet::united(a, b).contains(b));
  CHECK(a.contains(FieldSet()));
  // A path is not contained because longer ones are.
  CHECK_FALSE(b.contains(set_of(R"({"f:m":{}})")));
  CHECK(a.paths() == std::vector<std::string>{".a", ".m", ".m.x", ".m.y", ".z"});
  CHECK(set_of(R"({"k:{\"name\":\"web\"}":{},"v:\"x\"":{},"i:3":{}})").paths() ==
        std::vector<std::string>{"[name=\"web\"]", "[=\"x\"]", "[3]"});
}

TEST_CASE(
    "managers print the same text as their tree, and are read from either, whatever is in their words") {
  FieldManager plain{.name = "orchestra",
                     .operation = "Update",
                     .api_version = "v1",
                     .subresource = "status",
                     .time = "2026-01-01T00:00:00Z",
                     .fields = set_of(R"({"f:status":{"f:phase":{},"k:{\"type\":\"Ready\"}":{".":{}}}})")};
  FieldManager odd{.name = "a \"quoted\\ name",
                   .operation = "Apply",
                   .api_version = "apps/v1",
                   .subresource = "",
                   .time = "",
                   .fields = set_of("{\"f:\\u0001\\\"x\":{},\"f:\xC3\xA4\":{},\"v:\\\"y\\\"\":{}}")};
  for (const FieldManagers& managers : std::vector<FieldManagers>{{plain}, {odd}, {plain, odd}}) {
    const std::string text = managers_text(managers);
    CAPTURE(text);
    const std::string from_tree = to_json(json::value(print_managers(managers)));
    CHECK(text == from_tree);
    const auto read = read_managers_text(text);
    REQUIRE(read);
    CHECK(managers_text(*read) == text);
    CHECK(same_but_times(*read, managers));
  }
  CHECK(read_managers_text("")->empty());
  CHECK(read_managers_text(
            R"([ {"operation":"Update", "manager":"m", "apiVersion":"v1", "fieldsType":"FieldsV1"} ])")
            ->size() == 1);
  for (
      const char* wrong :
      {"[", "[]x", R"([{"manager":"m","operation":"Steal","apiVersion":"v1"}])",
       R"([{"manager":"m","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:a":1}}])"}) {
    CAPTURE(wrong);
    CHECK_FALSE(read_managers_text(wrong));
  }
}
