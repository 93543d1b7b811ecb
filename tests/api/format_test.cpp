// Names, times, ages, generated names.
#include "api/meta.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::api;

namespace {
class Counting final : public Random {
 public:
  std::uint64_t next() override { return value_ += 0x9e3779b97f4a7c15ull; }
  void fill(void* bytes, std::size_t size) override {
    for (std::size_t i = 0; i < size; ++i)
      static_cast<unsigned char*>(bytes)[i] = static_cast<unsigned char>(next() >> 32);
  }

 private:
  std::uint64_t value_ = 1;
};
constexpr std::int64_t kMinute = 60 * kSecond, kHour = 60 * kMinute, kDay = 24 * kHour;
}  // namespace

TEST_CASE("names are judged by the rule of their kind") {
  CHECK(check_dns1123_subdomain("a.b-c.d1").empty());
  for (const char* bad : {"", "A", "-a", "a-", "a..b", ".a", "a.", "a_b"})
    CHECK_FALSE(check_dns1123_subdomain(bad).empty());
  CHECK(check_dns1123_subdomain(std::string(253, 'a')).empty());
  CHECK(check_dns1123_subdomain(std::string(254, 'a')) == "must be no more than 253 characters");
  CHECK(check_dns1123_label("1-a").empty());
  CHECK_FALSE(check_dns1123_label("a.b").empty());
  CHECK_FALSE(check_dns1035_label("1a").empty());
  CHECK(check_path_segment("system:node").empty());
  CHECK(check_path_segment("a/b") == "may not contain '/'");
  CHECK(check_qualified_name("example.com/My_Name.1").empty());
  CHECK_FALSE(check_qualified_name("example.com/").empty());
  CHECK_FALSE(check_qualified_name("/a").empty());
  CHECK(check_label_value("").empty());
  CHECK_FALSE(check_label_value("a b").empty());
  CHECK(check_port_name("http-2").empty());
  for (const char* bad : {"80", "a--b", "-a", "Http", "a-very-long-port-name"})
    CHECK_FALSE(check_port_name(bad).empty());
  CHECK(check_config_map_key("..a") == "must not start with '..'");
}

TEST_CASE("times are read with any offset and printed in UTC") {
  const std::pair<const char*, const char*> cases[] = {
      {"1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"},
      {"2026-11-23T15:04:05Z", "2026-11-23T15:04:05Z"},
      {"2026-11-23T15:04:05.999Z", "2026-11-23T15:04:05Z"},
      {"2026-11-23T01:04:05+02:00", "2026-11-22T23:04:05Z"},
      {"2024-02-29T23:59:59-00:30", "2024-03-01T00:29:59Z"},
      {"1969-12-31T23:59:59Z", "1969-12-31T23:59:59Z"},
  };
  for (const auto& [text, expected] : cases) {
    CAPTURE(text);
    REQUIRE(parse_time(text).has_value());
    CHECK(format_time(*parse_time(text)) == expected);
  }
  for (const char* bad : {"", "2026", "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-01T24:00:00Z",
                          "2026-01-01 00:00:00Z", "2026-01-01T00:00:00", "2026-01-01T00:00:00.Z",
                          "2026-01-01T00:00:00+2:00", "2026-01-01T00:00:00Zx"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_time(bad).has_value());
  }
  CHECK(format_micro_time(*parse_time("2026-11-23T15:04:05.1234567Z")) == "2026-11-23T15:04:05.123456Z");
  CHECK(parse_time("9999-12-31T23:59:59Z") == INT64_MAX);
  // What nanoseconds do not hold is stored as it was sent, nevertheless.
  for (const char* text : {"0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "1013-01-01T00:00:00Z",
                           "1677-09-21T00:12:43Z", "2262-04-11T23:47:17Z", "9999-12-31T23:59:59Z"}) {
    CAPTURE(text);
    REQUIRE(parse_wall_time(text).has_value());
    CHECK(format_time(*parse_wall_time(text)) == text);
    CHECK(format_micro_time(*parse_wall_time(text)) == std::string(text).substr(0, 19) + ".000000Z");
  }
  CHECK_FALSE(parse_wall_time("9999-12-31T23:59:59-00:01").has_value());
  CHECK_FALSE(parse_wall_time("0000-01-01T00:00:00+00:01").has_value());
  CHECK(format_micro_time(std::int64_t{-1}) == "1969-12-31T23:59:59.999999Z");
}

TEST_CASE("ages are short") {
  CHECK(age("0001-01-01T00:00:00Z", {.wall_ns = 1'780'000'000 * kSecond}) == "292y");  // as far as they reach
  CHECK(age("9999-12-31T23:59:59Z", {.wall_ns = 1'780'000'000 * kSecond}) == "<invalid>");
  const std::pair<std::int64_t, const char*> cases[] = {
      {-5 * kSecond, "<invalid>"},
      {-1 * kSecond, "0s"},
      {0, "0s"},
      {119 * kSecond, "119s"},
      {2 * kMinute, "2m"},
      {5 * kMinute + 3 * kSecond, "5m3s"},
      {10 * kMinute + 3 * kSecond, "10m"},
      {179 * kMinute, "179m"},
      {3 * kHour, "3h"},
      {3 * kHour + 5 * kMinute, "3h5m"},
      {8 * kHour + kMinute, "8h"},
      {47 * kHour, "47h"},
      {2 * kDay, "2d"},
      {2 * kDay + kHour, "2d1h"},
      {8 * kDay + kHour, "8d"},
      {729 * kDay, "729d"},
      {730 * kDay, "2y"},
      {731 * kDay, "2y1d"},
      {3000 * kDay, "8y"},
  };
  for (const auto& [ns, expected] : cases) CHECK(human_duration(ns) == expected);
  CHECK(age("", Now{}) == "<unknown>");
}

TEST_CASE("generated names keep 58 characters of their base") {
  Counting random;
  const std::string name = generate_name(std::string(80, 'a'), random);
  CHECK(name.size() == 63);
  CHECK(name.substr(58).find_first_not_of("bcdfghjklmnpqrstvwxz2456789") == std::string::npos);
  CHECK(generate_name("web-", random) != generate_name("web-", random));
}
