// Families and addresses of Services as a table: what was asked for, in a cluster of one family or of two,
// and what becomes of it. The rows follow kubernetes/pkg/registry/core/service/storage/rest_test.go in what
// they try.
#include "kinds/service_families.hpp"
#include "base/json.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::apiserver;

namespace {

json::value service(const std::string& spec) {
  auto parsed = parse_json("{\"spec\":" + spec + "}");
  REQUIRE_MESSAGE(parsed, spec);
  return *parsed;
}

/// "POLICY FAMILIES ADDRESSES", or the refusals.
std::string completed(const std::string& spec, const std::string& old, bool two,
                      const std::string& first = "IPv4") {
  json::value now = service(spec);
  const json::value before = old.empty() ? json::value() : service(old);
  api::FieldErrors errors;
  complete_service_families(now, old.empty() ? nullptr : &before, {first, two}, errors);
  std::string out;
  for (const auto& error : errors) out += (out.empty() ? "" : "; ") + error.to_string();
  if (!out.empty()) return out;
  const json::object& fields = now.at("spec").get_object();
  out = string_at(now, "/spec/ipFamilyPolicy", "-");
  for (const char* list : {"ipFamilies", "clusterIPs"}) {
    std::string texts;
    for (const std::string& text : texts_of(fields, list)) texts += (texts.empty() ? "" : ",") + text;
    out += " " + (texts.empty() ? "-" : texts);
  }
  return out;
}

}  // namespace

TEST_CASE("a new Service gets the families that its policy, its families and its addresses mean") {
  struct Row {
    const char *spec, *in_one, *in_two;
  };
  const std::string no_six = R"(spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster)";
  const std::string no_two =
      R"(spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services)";
  const std::string second_not =
      R"(spec.clusterIPs[1]: Invalid value: ["10.96.0.9","fd00::9"]: IPv6 is not configured on this cluster)";
  for (
      const Row& row : {
          Row{R"({})", "SingleStack IPv4 -", "SingleStack IPv4 -"},
          Row{R"({"selector":{"a":"b"}})", "SingleStack IPv4 -", "SingleStack IPv4 -"},
          Row{R"({"ipFamilyPolicy":null,"ipFamilies":null})", "SingleStack IPv4 -", "SingleStack IPv4 -"},
          Row{R"({"ipFamilyPolicy":"PreferDualStack"})", "PreferDualStack IPv4 -",
              "PreferDualStack IPv4,IPv6 -"},
          Row{R"({"ipFamilyPolicy":"RequireDualStack"})", no_two.c_str(), "RequireDualStack IPv4,IPv6 -"},
          Row{R"({"ipFamilies":["IPv6"]})", no_six.c_str(), "SingleStack IPv6 -"},
          Row{R"({"ipFamilies":["IPv6"],"ipFamilyPolicy":"PreferDualStack"})", no_six.c_str(),
              "PreferDualStack IPv6,IPv4 -"},
          Row{R"({"ipFamilies":["IPv4","IPv6"]})",
              R"(spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified)",
              R"(spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified)"},
          Row{R"({"ipFamilies":["IPv4","IPv4"],"ipFamilyPolicy":"PreferDualStack"})",
              R"(spec.ipFamilies[1]: Duplicate value: "IPv4")",
              R"(spec.ipFamilies[1]: Duplicate value: "IPv4")"},
          Row{R"({"clusterIP":"10.96.0.9"})", "SingleStack IPv4 10.96.0.9", "SingleStack IPv4 10.96.0.9"},
          Row{R"({"clusterIP":"fd00::9"})",
              R"(spec.clusterIPs[0]: Invalid value: ["fd00::9"]: IPv6 is not configured on this cluster)",
              "SingleStack IPv6 fd00::9"},
          Row{R"({"clusterIP":"10.96.0.9","ipFamilies":["IPv6"]})",
              R"(spec.clusterIPs[0]: Invalid value: "10.96.0.9": expected an IPv6 value as indicated by `ipFamilies[0]`)",
              R"(spec.clusterIPs[0]: Invalid value: "10.96.0.9": expected an IPv6 value as indicated by `ipFamilies[0]`)"},
          Row{R"({"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9","fd00::9"],"ipFamilyPolicy":"PreferDualStack"})",
              second_not.c_str(), "PreferDualStack IPv4,IPv6 10.96.0.9,fd00::9"},
          Row{R"({"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9"],"ipFamilyPolicy":"RequireDualStack"})",
              no_two.c_str(), "RequireDualStack IPv4,IPv6 10.96.0.9"},
          Row{R"({"clusterIPs":["10.96.0.9"]})",
              R"(spec.clusterIPs: Invalid value: ["10.96.0.9"]: must be empty when `clusterIP` is not specified)",
              R"(spec.clusterIPs: Invalid value: ["10.96.0.9"]: must be empty when `clusterIP` is not specified)"},
          Row{R"({"clusterIP":"10.96.0.8","clusterIPs":["10.96.0.9"]})",
              R"(spec.clusterIPs: Invalid value: ["10.96.0.9"]: first value must match `clusterIP`)",
              R"(spec.clusterIPs: Invalid value: ["10.96.0.9"]: first value must match `clusterIP`)"},
          Row{R"({"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9","10.96.0.8"],"ipFamilyPolicy":"PreferDualStack"})",
              R"(spec.clusterIPs: Invalid value: ["10.96.0.9","10.96.0.8"]: may specify no more than one IP for each IP family)",
              R"(spec.clusterIPs: Invalid value: ["10.96.0.9","10.96.0.8"]: may specify no more than one IP for each IP family)"},
          Row{R"({"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9","None"]})",
              R"(spec.clusterIPs[1]: Invalid value: "None": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff))",
              R"(spec.clusterIPs[1]: Invalid value: "None": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff))"},
          // Headless: with a selector as others; without one the endpoints may be of any family.
          Row{R"({"clusterIP":"None","selector":{"a":"b"}})", "SingleStack IPv4 None",
              "SingleStack IPv4 None"},
          Row{R"({"clusterIP":"None","selector":{"a":"b"},"ipFamilyPolicy":"PreferDualStack"})",
              "PreferDualStack IPv4 None", "PreferDualStack IPv4,IPv6 None"},
          Row{R"({"clusterIP":"None","selector":{"a":"b"},"ipFamilyPolicy":"RequireDualStack"})",
              no_two.c_str(), "RequireDualStack IPv4,IPv6 None"},
          Row{R"({"clusterIP":"None"})", "RequireDualStack IPv4,IPv6 None",
              "RequireDualStack IPv4,IPv6 None"},
          Row{R"({"clusterIP":"None","ipFamilies":["IPv6"]})", "RequireDualStack IPv6,IPv4 None",
              "RequireDualStack IPv6,IPv4 None"},
          Row{R"({"clusterIP":"None","ipFamilies":["IPv6"],"ipFamilyPolicy":"SingleStack"})",
              "SingleStack IPv6 None", "SingleStack IPv6 None"},
          Row{R"({"type":"ExternalName"})", "- - -", "- - -"},
      }) {
    CHECK_MESSAGE(completed(row.spec, "", false) == row.in_one, row.spec);
    CHECK_MESSAGE(completed(row.spec, "", true) == row.in_two, row.spec);
  }
}

TEST_CASE(
    "an update keeps what it does not say, raises and lowers by its policy, and drops what a type has not") {
  const std::string single =
      R"({"ipFamilyPolicy":"SingleStack","ipFamilies":["IPv4"],"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9"]})";
  const std::string both =
      R"({"ipFamilyPolicy":"PreferDualStack","ipFamilies":["IPv4","IPv6"],"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9","fd00::9"]})";
  const auto with = [](std::string spec, const std::string& from, const std::string& to) {
    REQUIRE(spec.find(from) != std::string::npos);
    return spec.replace(spec.find(from), from.size(), to);
  };
  const std::string external = R"({"type":"ExternalName"})";
  struct Row {
    std::string now, old, result;
  };
  for (
      const Row& row : {
          Row{"{}", single, "SingleStack IPv4 10.96.0.9"},
          Row{"{}", both, "PreferDualStack IPv4,IPv6 10.96.0.9,fd00::9"},
          Row{both, both, "PreferDualStack IPv4,IPv6 10.96.0.9,fd00::9"},
          Row{R"({"ipFamilyPolicy":"PreferDualStack"})", single, "PreferDualStack IPv4,IPv6 10.96.0.9"},
          Row{with(single, "SingleStack", "RequireDualStack"), single,
              "RequireDualStack IPv4,IPv6 10.96.0.9"},
          Row{with(both, "PreferDualStack", "SingleStack"), both, "SingleStack IPv4 10.96.0.9"},
          Row{R"({"ipFamilyPolicy":"SingleStack"})", both, "SingleStack IPv4 10.96.0.9"},
          Row{with(both, R"(,"fd00::9")", ""), both,
              R"(spec.ipFamilyPolicy: Invalid value: "PreferDualStack": must be 'SingleStack' to release the secondary cluster IP)"},
          Row{with(both, R"(,"IPv6")", ""), both,
              R"(spec.ipFamilyPolicy: Invalid value: "PreferDualStack": must be 'SingleStack' to release the secondary IP family)"},
          Row{external, both, "- - -"},
          Row{with(both, "{", R"({"type":"ExternalName",)"), both, "- - -"},
          Row{"{}", external, "SingleStack IPv4 -"},
          // A client that knows clusterIP only.
          Row{R"({"clusterIP":"10.96.0.9"})", both, "PreferDualStack IPv4,IPv6 10.96.0.9,fd00::9"},
          Row{with(single, R"("clusterIP":"10.96.0.9")", R"("clusterIP":"10.96.0.8")"), single,
              "SingleStack IPv4 10.96.0.8"},
      }) {
    CHECK_MESSAGE(completed(row.now, row.old, true) == row.result, row.now, " after ", row.old);
  }
  // What prefers two families and has one stays so when the cluster has two meanwhile.
  const std::string preferred = with(single, "SingleStack", "PreferDualStack");
  CHECK(completed(preferred, preferred, true) == "PreferDualStack IPv4 10.96.0.9");
}

TEST_CASE("what a Service holds are its addresses") {
  CHECK(held_addresses(service(R"({"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9","fd00::9"]})")) ==
        std::vector<std::string>{"10.96.0.9", "fd00::9"});
  CHECK(held_addresses(service(R"({"clusterIP":"10.96.0.9"})")) == std::vector<std::string>{"10.96.0.9"});
  CHECK(held_addresses(service(R"({"clusterIP":"None","clusterIPs":["None"]})")).empty());
  CHECK(held_addresses(service("{}")).empty());
}

TEST_CASE("where IPv6 is the cluster's first family, or its only one, a Service that does not say has that") {
  struct Row {
    const char *spec, *in_one, *in_two;
  };
  for (const Row& row : {
           Row{R"({})", "SingleStack IPv6 -", "SingleStack IPv6 -"},
           Row{R"({"ipFamilyPolicy":"PreferDualStack"})", "PreferDualStack IPv6 -",
               "PreferDualStack IPv6,IPv4 -"},
           Row{R"({"ipFamilies":["IPv4"]})",
               R"(spec.ipFamilies[0]: Invalid value: "IPv4": not configured on this cluster)",
               "SingleStack IPv4 -"},
           Row{R"({"clusterIP":"10.96.0.9"})",
               R"(spec.clusterIPs[0]: Invalid value: ["10.96.0.9"]: IPv4 is not configured on this cluster)",
               "SingleStack IPv4 10.96.0.9"},
           Row{R"({"clusterIP":"None","selector":{"a":"b"}})", "SingleStack IPv6 None",
               "SingleStack IPv6 None"},
           Row{R"({"clusterIP":"None"})", "RequireDualStack IPv6,IPv4 None",
               "RequireDualStack IPv6,IPv4 None"},
       }) {
    CHECK_MESSAGE(completed(row.spec, "", false, "IPv6") == row.in_one, row.spec);
    CHECK_MESSAGE(completed(row.spec, "", true, "IPv6") == row.in_two, row.spec);
  }
}
