// YAML as sigs.k8s.io/yaml reads it, and back.
#include "base/yaml.hpp"

#include "tests/support/test.hpp"

using namespace orchestra;

namespace {
std::string as_json(std::string_view yaml) {
  const Result<json::value> parsed = parse_yaml(yaml);
  return parsed ? to_json(*parsed) : "error: " + parsed.error().message();
}
}  // namespace

TEST_CASE("plain YAML scalars mean what YAML 1.1 says") {
  const std::pair<const char*, const char*> cases[] = {
      {"0644", "420"},
      {"0o17", "15"},
      {"0x1F", "31"},
      {"0b101", "5"},
      {"089", "89"},
      {"1_000", "1000"},
      {"-5", "-5"},
      {"+5", "5"},
      {"1.5", "1.5"},
      {"1e3", "1000"},
      {".5", "0.5"},
      {"yes", "true"},
      {"Off", "false"},
      {"y", "true"},
      {"~", "null"},
      {"null", "null"},
      {"\"yes\"", "\"yes\""},
      {"'1'", "\"1\""},
      {"1.2.3", "\"1.2.3\""},
      {"10Mi", "\"10Mi\""},
      {"2020-01-02", "\"2020-01-02\""},
      {"2001-12-14t21:59:43Z", "\"2001-12-14t21:59:43Z\""},
      {"!!str 12", "\"12\""},
      {"!!binary aGk=", "\"hi\""},
      {"18446744073709551615", "18446744073709551615"},
      {"- a\n- 1", "[\"a\",1]"},
      {"1: a\ntrue: b", "{\"1\":\"a\",\"true\":\"b\"}"},
  };
  for (const auto& [yaml, expected] : cases) {
    CAPTURE(yaml);
    CHECK(as_json(yaml) == expected);
  }
}

TEST_CASE("YAML anchors are copied and merges keep the keys that are there") {
  CHECK(as_json("base: &b {a: 1, b: 2}\nuse:\n  <<: *b\n  b: 3\n") ==
        R"({"base":{"a":1,"b":2},"use":{"b":3,"a":1}})");
  CHECK(as_json("a: *nope") == "error: line 1 column 4: unknown anchor \"nope\" referenced");
}

TEST_CASE("malformed YAML is refused with line and column") {
  CHECK(as_json("a: b\n c: d\n").find("line 2 column 3") != std::string::npos);
  CHECK(as_json("a: [1, 2").find("error: line ") == 0);
  CHECK(as_json("a: .inf").find("JSON has no number") != std::string::npos);
}

TEST_CASE("nested aliases do not fill the memory") {
  std::string bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 10; ++i) {
    const std::string prior = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 10; ++j) bomb += (j ? "," : "") + prior;
    bomb += "]\n";
  }
  CHECK(as_json(bomb).find("too many values") != std::string::npos);
}

TEST_CASE("duplicate YAML keys are reported by path") {
  const auto found = find_duplicate_yaml_keys("spec:\n  a: 1\n  a: 2\n  list:\n  - b: 1\n    b: 2\n");
  REQUIRE(found.size() == 2);
  CHECK(found[0] == "spec.a");
  CHECK(found[1] == "spec.list[0].b");
}

TEST_CASE("documents are split and empty ones are left out") {
  const auto documents = parse_yaml_documents("---\na: 1\n---\n# nothing\n---\nb: 2\n");
  REQUIRE(documents.has_value());
  CHECK(documents->size() == 2);
  CHECK_FALSE(parse_yaml("a: 1\n---\nb: 2\n").has_value());
}

TEST_CASE("what is printed as YAML reads back as the same tree") {
  const char* cases[] = {
      R"({"a":"yes","b":"1","c":"","d":" x","e":"two\nlines\n","f":"no newline\nat end","g":"- dash","h":"key: value","i":".inf","-.INF":".NaN"})",
      R"({"list":[1,"2",[3,[]],{"x":{"y":[]}},{}],"n":null,"t":true,"f":1.5,"date":"2020-01-02","e":"0644"})",
      R"({"text":"#!/bin/sh\nset -e\n  indented\n\nlast\n\n","tab":"a\tb","control":"a","utf8":"grün","quote":"it's \"x\""})",
      R"({"line":"a\u2028b\u2029","next":"a\u0085b\nc\n","mark":"\uFEFFa","\u2028":1})",
      R"({"y":1,"on":2,"1":3,"":4,"a b":5,"a: b":6,"-":7})",
  };
  for (const char* text : cases) {
    const json::value before = parse_json(text).value();
    const std::string yaml = to_yaml(before);
    CAPTURE(yaml);
    const auto after = parse_yaml(yaml);
    REQUIRE_MESSAGE(after.has_value(), after.error().message());
    CHECK(to_json(*after) == to_json(before));
  }
}
