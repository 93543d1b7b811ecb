#include "base/json_text.hpp"

#include "orchestra/engine.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;

TEST_CASE("a JSON error names line and column") {
  const auto bad = parse_json("{\n  \"a\": 1,\n  oops\n}");
  REQUIRE_FALSE(bad);
  CHECK(bad.error().message().find("line 3") != std::string::npos);
  CHECK_FALSE(parse_json("{} x"));
  CHECK_FALSE(parse_json(""));
}

TEST_CASE("depth 512 is read, depth 513 is refused") {
  CHECK(parse_json(std::string(512, '[') + std::string(512, ']')));
  CHECK_FALSE(parse_json(std::string(513, '[') + std::string(513, ']')));
}

TEST_CASE("duplicate keys are found with their paths") {
  CHECK(find_duplicate_keys(R"({"spec":{"replicas":1,"replicas":2,"c":[{"n":1},{"n":1,"n":2}]}})") ==
        std::vector<std::string>{"spec.replicas", "spec.c[1].n"});
  CHECK(find_duplicate_keys(R"({"a":{"b":1},"c":{"b":1}})").empty());
}

TEST_CASE("a text is read with its duplicate keys and whether it has fractions") {
  struct Row {
    std::string text;
    std::vector<std::string> duplicates;
    bool has_doubles;
  };
  std::string many = "{";
  for (int i = 0; i < 100; ++i) many += "\"key" + std::to_string(i) + "\":0,";
  const std::vector<Row> rows = {
      {R"({"a":1,"b":{"a":1},"c":[{"a":1},{"a":1}]})", {}, false},
      {R"({"a":1,"b":{"x":1,"y":2,"x":3},"a":2})", {"b.x", "a"}, false},
      {R"({"a":1,"\u0061":2})", {"a"}, false},
      {R"({"a\n":1,"b\n":2})", {}, false},
      {R"([1.5,{"a":18446744073709551616}])", {}, true},
      {R"([-9223372036854775808,18446744073709551615])", {}, false},
      {many + R"("last":1})", {}, false},
      {many + R"("key7":1})", {"key7"}, false},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    const auto read = read_json(row.text);
    REQUIRE(read);
    CHECK(read->tree == json::parse(row.text));
    CHECK(read->duplicates == row.duplicates);
    CHECK(read->has_doubles == row.has_doubles);
  }
}

TEST_CASE("a number too large for a double is refused, and zero is zero whatever its exponent") {
  for (const char* text : {"1e999", "-1e309", "[1.5e400]", R"({"a":1e99999})", "1e99999999999"}) {
    const auto read = parse_json(text);
    REQUIRE_FALSE(read);
    CHECK(read.error().message().find("exponent overflow at line 1") != std::string::npos);
  }
  for (const char* text : {"0e888880000", "0.0e999", "1e-999", "0e0"})
    CHECK(to_json(parse_json(text).value()) == "0");
  CHECK(to_json(parse_json("1.7976931348623157e308").value()) == "1.7976931348623157e+308");
}

TEST_CASE("numbers print as Go prints them") {
  CHECK(to_json(*parse_json("[1, 1.0, 0.5, -3, 1e3, 18446744073709551615]")) ==
        "[1,1,0.5,-3,1000,18446744073709551615]");
}

TEST_CASE("every byte is escaped as Boost.JSON escapes it") {
  for (int c = 0; c < 256; ++c) {
    const std::string text = {'a', static_cast<char>(c), 'z', static_cast<char>(c)};
    CAPTURE(c);
    CHECK(to_json(json::value(text)) == json::serialize(json::value(text)));
  }
}

TEST_CASE("values are found and set by JSON pointer") {
  json::value root = *parse_json(R"({"a":{"b/c":[1,{"d":true}]}})");
  CHECK(bool_at(root, "/a/b~1c/1/d"));
  CHECK(find(root, "/a/x/y") == nullptr);
  set_at(root, "/s/t", 5);
  CHECK(int_at(root, "/s/t") == 5);
  set_at(root, "/a/b~1c/0", "one");
  CHECK(string_at(root, "/a/b~1c/0") == "one");
  set_at(root, "/x~0y/z~2/", 1);
  CHECK(int_at(root, "/x~0y/z~2/") == 1);
  CHECK(find(root, "/x~0y")->get_object().contains("z~2"));
  CHECK(root.get_object().contains("x~y"));
}

TEST_CASE("texts and names are printed as Boost.JSON prints them, whatever they hold") {
  for (int c = 0; c < 256; ++c) {
    const std::string text = std::string("a") + static_cast<char>(c) + "z";
    const json::value pair = json::object{{text, text}};
    CHECK(to_json(pair) == json::serialize(pair));
  }
  CHECK(to_json(json::object{{"", ""}, {"n", -7}, {"u", 18446744073709551615ULL}}) ==
        R"({"":"","n":-7,"u":18446744073709551615})");
  CHECK(to_json(*parse_json(R"({"k\"":"é\u0001\n\\"})")) == R"({"k\"":"é\u0001\n\\"})");
}

TEST_CASE("a value longer than the parser's own room is read whole") {
  const std::string text = "{\"" + std::string(5000, 'k') + "\":\"" + std::string(20000, 'v') + "\"}";
  CHECK(to_json(*parse_json(text)) == text);
  std::string list = "[";
  for (int i = 0; i < 3000; ++i) list += (i == 0 ? "" : ",") + std::to_string(i);
  CHECK(to_json(*parse_json(list + "]")) == list + "]");
}

TEST_CASE("log lines have klog's form, fields are quoted when needed") {
  LogRecord record{
      LogLevel::warning, 1'795'437'296'123'456'000, "store", "slow sync", {{"ms", "120"}, {"file", "a b"}}};
  CHECK(format_log_text(record) == "W1123 12:34:56.123456 store] slow sync ms=120 file=\"a b\"");
  CHECK(format_log_json(record).find("\"level\":\"warning\"") != std::string::npos);
}
