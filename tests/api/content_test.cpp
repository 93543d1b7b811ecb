// Request bodies: JSON, YAML, protobuf.
#include "api/content.hpp"

#include "api/protobuf.hpp"
#include "tests/api/support.hpp"

using namespace orchestra;
using namespace orchestra::api;

namespace {

const GroupVersionKind kDeployment{"apps", "v1", "Deployment"};
SchemaRef deployment_schema() {
  return TypeRegistry::builtin()->find_kind(kDeployment)->versions.front().schema;
}

Result<DecodedBody> decode(std::string_view text, BodyFormat format = BodyFormat::json) {
  return decode_body(text, format, kDeployment, deployment_schema());
}
std::string failure(std::string_view text, BodyFormat format = BodyFormat::json) {
  const auto decoded = decode(text, format);
  REQUIRE_FALSE(decoded.has_value());
  const Status* status = decoded.error().detail<Status>();
  REQUIRE(status != nullptr);
  CHECK(status->code == 400);
  return status->message;
}

/// Writes protobuf for the tests: field(number, bytes) and number(number, value).
class Writer {
 public:
  Writer& bytes(unsigned field, std::string_view text) {
    varint(field << 3 | 2);
    varint(text.size());
    out_ += text;
    return *this;
  }
  Writer& number(unsigned field, std::uint64_t value) {
    varint(field << 3);
    varint(value);
    return *this;
  }
  const std::string& text() const { return out_; }

 private:
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) out_ += static_cast<char>(value | 0x80);
    out_ += static_cast<char>(value);
  }
  std::string out_;
};

std::string envelope(std::string_view api_version, std::string_view kind, const std::string& raw) {
  const std::string meta = Writer().bytes(1, api_version).bytes(2, kind).text();
  return std::string("k8s\0", 4) + Writer().bytes(1, meta).bytes(2, raw).text();
}

}  // namespace

TEST_CASE("bodies tell unknown and duplicate fields apart") {
  const auto body =
      decode(R"({"kind":"Deployment","apiVersion":"apps/v1","spec":{"replicas":1,"replicas":2,"foo":1}})")
          .value();
  CHECK(body.unknown == std::vector<std::string>{"spec.foo"});
  CHECK(body.duplicate == std::vector<std::string>{"spec.replicas"});
  CHECK(int_at(body.tree, "/spec/replicas") == 2);
  const auto yaml = decode("spec:\n  replicas: 1\n  replicas: 2\n", BodyFormat::yaml).value();
  CHECK(yaml.duplicate == std::vector<std::string>{"spec.replicas"});
  CHECK(string_at(yaml.tree, "/kind") == "Deployment");
}

TEST_CASE("bodies that cannot be this kind are refused") {
  CHECK(failure("{").find("json parse error") != std::string::npos);
  CHECK(failure("a: [", BodyFormat::yaml).find("line ") != std::string::npos);
  CHECK(failure("[1]").find("must be an object") != std::string::npos);
  CHECK(failure(R"({"kind":"Pod","apiVersion":"v1"})").find("expected apps/v1, Kind=Deployment") !=
        std::string::npos);
  CHECK(failure(R"({"spec":{"replicas":"1"}})") ==
        "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into "
        "Go struct field "
        "DeploymentSpec.spec.replicas of type int32");
}

TEST_CASE("content types name their format") {
  CHECK(body_format("application/json; charset=utf-8") == BodyFormat::json);
  CHECK(body_format("Application/YAML") == BodyFormat::yaml);
  CHECK(body_format("application/vnd.kubernetes.protobuf") == BodyFormat::protobuf);
  CHECK_FALSE(body_format("text/html").has_value());
}

TEST_CASE("a protobuf body gives the tree that JSON gives") {
  const std::string meta =
      Writer().bytes(1, "web").bytes(11, Writer().bytes(1, "app").bytes(2, "web").text()).text();
  const std::string limit = Writer().bytes(1, "cpu").bytes(2, Writer().bytes(1, "500m").text()).text();
  const std::string port = Writer().number(3, 80).bytes(4, "TCP").text();
  const std::string probe =
      Writer()
          .bytes(
              1,
              Writer()
                  .bytes(
                      2,
                      Writer().bytes(1, "/ok").bytes(2, Writer().number(1, 1).bytes(3, "http").text()).text())
                  .text())
          .number(2, 5)
          .text();
  const std::string container = Writer()
                                    .bytes(1, "main")
                                    .bytes(2, "nginx")
                                    .bytes(6, port)
                                    .bytes(8, Writer().bytes(1, limit).text())
                                    .bytes(10, probe)
                                    .text();
  const std::string volume =
      Writer()
          .bytes(1, "v")
          .bytes(2, Writer().bytes(19, Writer().bytes(1, Writer().bytes(1, "config").text()).text()).text())
          .text();
  const std::string pod_spec = Writer().bytes(1, volume).bytes(2, container).text();
  const std::string pod = Writer().bytes(2, pod_spec).text();
  const std::string spec = Writer().number(1, 3).bytes(3, pod).number(7, 0).number(99, 7).text();
  const auto body = decode(envelope("apps/v1", "Deployment", Writer().bytes(1, meta).bytes(2, spec).text()),
                           BodyFormat::protobuf);
  REQUIRE_MESSAGE(body.has_value(), (body ? std::string() : body.error().message()));
  CHECK(body->unknown.empty());
  CHECK(
      to_json(body->tree) ==
      R"({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","labels":{"app":"web"}},"spec":{"replicas":3,"template":{"spec":{"volumes":[{"name":"v","configMap":{"name":"config"}}],"containers":[{"name":"main","image":"nginx","ports":[{"containerPort":80,"protocol":"TCP"}],"resources":{"limits":{"cpu":"500m"}},"livenessProbe":{"httpGet":{"path":"/ok","port":"http"},"initialDelaySeconds":5}}]}}}})");
}

TEST_CASE("fields of a message that JSON leaves out, that come twice or in any order") {
  const auto spec_of = [](const std::string& spec) {
    const auto body =
        decode(envelope("apps/v1", "Deployment", Writer().bytes(2, spec).text()), BodyFormat::protobuf);
    return body ? to_json(*find(body->tree, "/spec")) : body.error().message();
  };
  const auto pod_spec = [&](const std::string& spec) {
    return spec_of(Writer().bytes(3, Writer().bytes(2, spec).text()).text());
  };
  // minReadySeconds and paused go where they are zero; replicas tells zero from absent.
  CHECK(spec_of(Writer().number(1, 0).number(5, 0).number(7, 0).text()) == R"({"replicas":0})");
  CHECK(spec_of(Writer().number(5, 3).number(7, 1).number(5, 0).text()) == R"({"paused":true})");
  CHECK(spec_of(Writer().number(5, 3).number(7, 1).number(5, 4).text()) ==
        R"({"minReadySeconds":4,"paused":true})");
  CHECK(spec_of(Writer().number(5, 3).number(5, 0).text()) == "{}");
  // A list between other fields.
  const std::string a = Writer().bytes(1, "a").text(), b = Writer().bytes(1, "b").text();
  CHECK(pod_spec(Writer().bytes(2, a).bytes(3, "Never").bytes(2, b).text()) ==
        R"({"template":{"spec":{"containers":[{"name":"a"},{"name":"b"}],"restartPolicy":"Never"}}})");
  // A map with a key twice.
  const auto word = [](const char* value) { return Writer().bytes(1, "k").bytes(2, value).text(); };
  CHECK(pod_spec(Writer().bytes(7, word("1")).bytes(7, word("2")).text()) ==
        R"({"template":{"spec":{"nodeSelector":{"k":"2"}}}})");
  // int32 takes the lower half, as Go does.
  CHECK(spec_of(Writer().number(1, (std::uint64_t{1} << 32) + 7).text()) == R"({"replicas":7})");
  const std::string limit = Writer().bytes(1, "cpu").bytes(2, Writer().bytes(1, "much").text()).text();
  const std::string container = Writer().bytes(8, Writer().bytes(1, limit).text()).text();
  CHECK(pod_spec(Writer().bytes(2, container).text())
            .starts_with("proto: spec.template.spec.containers[0].resources.limits[cpu] is no quantity"));
}

TEST_CASE("malformed protobuf is a 400 that names the field") {
  CHECK(failure("nope", BodyFormat::protobuf).find("does not appear to be a protobuf message") !=
        std::string::npos);
  CHECK(failure(envelope("apps/v1", "Deployment", "\x0a\x7f"), BodyFormat::protobuf).find("truncated") !=
        std::string::npos);
  const std::string wrong_wire = Writer().bytes(2, Writer().bytes(1, "x").text()).text();
  CHECK(failure(envelope("apps/v1", "Deployment", wrong_wire), BodyFormat::protobuf) ==
        "proto: spec.replicas has a wrong wire type");
  const std::string bad_text = Writer().bytes(1, Writer().bytes(1, "\xff").text()).text();
  CHECK(failure(envelope("apps/v1", "Deployment", bad_text), BodyFormat::protobuf) ==
        "proto: metadata.name is not UTF-8");
}

TEST_CASE("every prefix of a protobuf body is refused or decoded, never read beyond") {
  const std::string body = envelope(
      "apps/v1", "Deployment",
      Writer().bytes(1, Writer().bytes(1, "web").text()).bytes(2, Writer().number(1, 3).text()).text());
  for (std::size_t size = 0; size < body.size(); ++size) {
    const std::string part =
        body.substr(0, size);  // its own allocation, so that a sanitizer sees a read past it
    (void)decode(part, BodyFormat::protobuf);
  }
  CHECK(decode(body, BodyFormat::protobuf).has_value());
}

TEST_CASE("text that is not UTF-8 is a 400 in every format, and what is, stays") {
  for (const std::string bad :
       {"\xff", "\xc3\x28", "\xed\xa0\x80", "\xc0\xaf", "\xf5\x80\x80\x80", "a\xe2\x82"}) {
    CAPTURE(bad);
    CHECK_FALSE(failure("{\"metadata\":{\"name\":\"" + bad + "\"}}").empty());
    CHECK_FALSE(failure("metadata:\n  name: \"" + bad + "\"\n", BodyFormat::yaml).empty());
    CHECK_FALSE(failure("metadata:\n  name: x" + bad + "\n", BodyFormat::yaml).empty());
  }
  const std::string good = "\xc3\xa4\xe2\x82\xac\xf0\x9f\x8e\xbc";
  CHECK(string_at(decode("{\"metadata\":{\"name\":\"" + good + "\"}}").value().tree, "/metadata/name") ==
        good);
  CHECK(string_at(decode("metadata:\n  name: " + good + "\n", BodyFormat::yaml).value().tree,
                  "/metadata/name") == good);
}

TEST_CASE("raw extensions and extra values have messages of their own") {
  const auto decoded = [](const GroupVersionKind& kind, const std::string& raw) {
    const SchemaRef schema = TypeRegistry::builtin()->find_kind(kind)->versions.front().schema;
    const std::string api_version = kind.group.empty() ? kind.version : kind.group + "/" + kind.version;
    return decode_body(envelope(api_version, kind.kind, raw), BodyFormat::protobuf, kind, schema);
  };
  // RawExtension: the JSON of an object, as bytes.
  const GroupVersionKind revision{"apps", "v1", "ControllerRevision"};
  const auto data = [](std::string_view json) { return Writer().bytes(2, Writer().bytes(1, json).text()); };
  const auto body = decoded(revision, data(R"({"spec":{"a":[1,"x"]}})").number(3, 7).text());
  REQUIRE_MESSAGE(body.has_value(), (body ? std::string() : body.error().message()));
  CHECK(to_json(body->tree) ==
        R"({"apiVersion":"apps/v1","kind":"ControllerRevision","data":{"spec":{"a":[1,"x"]}},"revision":7})");
  const auto bad = decoded(revision, data("{").text());
  REQUIRE_FALSE(bad.has_value());
  REQUIRE(bad.error().detail<Status>() != nullptr);
  CHECK(bad.error().detail<Status>()->code == 400);
  CHECK(bad.error().detail<Status>()->message.find("data") != std::string::npos);
  const auto list = decoded(revision, data("[1]").text());
  REQUIRE_FALSE(list.has_value());
  CHECK(list.error().message() == "proto: data holds JSON that is no object");

  // ExtraValue: a list of words behind each key of a map.
  const GroupVersionKind review{"authorization.k8s.io", "v1", "SubjectAccessReview"};
  const std::string words = Writer().bytes(1, "a").bytes(1, "b").text();
  const std::string entry = Writer().bytes(1, "scopes").bytes(2, words).text();
  const std::string spec = Writer().bytes(3, "jane").bytes(5, entry).text();
  const auto asked = decoded(review, Writer().bytes(2, spec).text());
  REQUIRE_MESSAGE(asked.has_value(), (asked ? std::string() : asked.error().message()));
  CHECK(to_json(*find(asked->tree, "/spec")) == R"({"user":"jane","extra":{"scopes":["a","b"]}})");
}

TEST_CASE("options of a deletion come in each format") {
  const GroupVersionKind kind{"", "v1", "DeleteOptions"};
  const SchemaRef schema = builtin_type("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions");
  const std::string uid = "0b0b1c52-0000-4000-8000-000000000000";
  const std::string raw = Writer()
                              .number(1, 5)
                              .bytes(2, Writer().bytes(1, uid).bytes(2, "17").text())
                              .bytes(4, "Foreground")
                              .bytes(5, "All")
                              .text();
  const std::string json =
      R"({"apiVersion":"v1","kind":"DeleteOptions","gracePeriodSeconds":5,"preconditions":{"uid":")" + uid +
      R"(","resourceVersion":"17"},"propagationPolicy":"Foreground","dryRun":["All"]})";
  const auto of = [&](std::string_view text, BodyFormat format) {
    const auto body = decode_body(text, format, kind, schema);
    REQUIRE_MESSAGE(body.has_value(), (body ? std::string() : body.error().message()));
    CHECK(body->unknown.empty());
    return to_json(body->tree);
  };
  CHECK(of(json, BodyFormat::json) == json);
  CHECK(of(envelope("v1", "DeleteOptions", raw), BodyFormat::protobuf) == json);
  CHECK(of("apiVersion: v1\nkind: DeleteOptions\ngracePeriodSeconds: 5\npreconditions: {uid: " + uid +
               ", resourceVersion: \"17\"}\npropagationPolicy: Foreground\ndryRun: [All]\n",
           BodyFormat::yaml) == json);
}
