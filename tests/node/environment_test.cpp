// Environment, arguments and downward API of containers: kubelet's rules as tables.
#include "node/environment.hpp"

#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::node;

namespace {
EnvironmentInputs inputs_of(const json::value& pod) {
  EnvironmentInputs in;
  in.pod = &pod;
  in.container = find(pod, "/spec/containers/0");
  in.config_map = [](const std::string& name) -> std::optional<DataMap> {
    if (name == "settings") return DataMap{{"color", "blue"}, {"bad name", "x"}};
    return std::nullopt;
  };
  in.secret = [](const std::string& name) -> std::optional<DataMap> {
    if (name == "keys") return DataMap{{"password", "s3cret"}};
    return std::nullopt;
  };
  in.node_name = "n1";
  in.host_ip = "10.0.0.1";
  in.pod_ips = {"10.244.0.7"};
  in.node_cpu_milli = 2000;
  in.node_memory_bytes = 1 << 30;
  return in;
}
json::value pod_with(std::string_view container) {
  return *parse_json(R"({"metadata":{"name":"web-1","namespace":"shop","uid":"u1","labels":{"app":"web"}},
    "spec":{"containers":[)" +
                     std::string(container) + "]}}");
}
}  // namespace

TEST_CASE("$(NAME) is replaced, $$ is a dollar, an unknown name stays") {
  const std::map<std::string, std::string> env{{"A", "1"}, {"B", "two"}};
  struct Row {
    const char *in, *out;
  };
  for (const Row& row : {Row{"$(A)-$(B)", "1-two"},
                         {"$$(A)", "$(A)"},
                         {"$(X)", "$(X)"},
                         {"$A", "$A"},
                         {"$(A", "$(A"},
                         {"$$$(A)", "$1"},
                         {"cost: $", "cost: $"},
                         {"", ""}}) {
    CAPTURE(row.in);
    CHECK(expand(row.in, env) == row.out);
  }
}

TEST_CASE("env sees only what stands above it, and later entries win") {
  const json::value pod =
      pod_with(R"j({"name":"c","envFrom":[{"prefix":"P_","configMapRef":{"name":"settings"}}],
    "env":[{"name":"X","value":"$(Y)"},{"name":"Y","value":"y"},{"name":"Z","value":"$(Y)$(P_color)"},{"name":"Y","value":"again"}]})j");
  const auto env = make_environment(inputs_of(pod)).value();
  CHECK(env.at("X") == "$(Y)");
  CHECK(env.at("Z") == "yblue");
  CHECK(env.at("Y") == "again");
  CHECK(env.count("P_bad name") == 0);
}

TEST_CASE("downward API, secrets and resources become variables") {
  const json::value pod =
      pod_with(R"({"name":"c","resources":{"limits":{"memory":"64Mi"},"requests":{"cpu":"150m"}},
    "env":[{"name":"IP","valueFrom":{"fieldRef":{"fieldPath":"status.podIP"}}},
           {"name":"APP","valueFrom":{"fieldRef":{"fieldPath":"metadata.labels['app']"}}},
           {"name":"PW","valueFrom":{"secretKeyRef":{"name":"keys","key":"password"}}},
           {"name":"NONE","valueFrom":{"secretKeyRef":{"name":"gone","key":"x","optional":true}}},
           {"name":"MEM","valueFrom":{"resourceFieldRef":{"resource":"limits.memory","divisor":"1Mi"}}},
           {"name":"CPU","valueFrom":{"resourceFieldRef":{"resource":"requests.cpu","divisor":"1"}}},
           {"name":"ALL","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu"}}}]})");
  const auto env = make_environment(inputs_of(pod)).value();
  CHECK(env.at("IP") == "10.244.0.7");
  CHECK(env.at("APP") == "web");
  CHECK(env.at("PW") == "s3cret");
  CHECK(env.count("NONE") == 0);
  CHECK(env.at("MEM") == "64");
  CHECK(env.at("CPU") == "1");
  CHECK(env.at("ALL") == "2");
}

TEST_CASE("host names: short, whole, cut, overridden, and the machine's") {
  const auto pod = [](const std::string& name, const std::string& spec) {
    return json::parse(R"({"metadata":{"name":")" + name + R"(","namespace":"shop"},"spec":)" + spec + "}");
  };
  const auto named = [&](const std::string& name, const std::string& spec) {
    auto made = pod_hostname(pod(name, spec), "cluster.local");
    return made ? *made : made.error().message();
  };
  const std::string longest(62, 'x');
  CHECK(named("web", "{}") == "web");
  CHECK(named(longest + "-yyyy", "{}") == longest);
  CHECK(named("web", R"({"hostname":"h","subdomain":"s"})") == "h");
  CHECK(named("web", R"({"hostname":"h","subdomain":"s","setHostnameAsFQDN":true})") ==
        "h.s.shop.svc.cluster.local");
  CHECK(named("web", R"({"setHostnameAsFQDN":true})") == "web");
  CHECK(named("web", R"({"hostname":"h","subdomain":"s","hostnameOverride":"other.example"})") ==
        "other.example");
  CHECK(named(longest, R"({"subdomain":"s","setHostnameAsFQDN":true})").find("has 87 characters") !=
        std::string::npos);
  CHECK(named("web", R"({"hostNetwork":true})") != "web");
  CHECK(whole_hostname(pod("web", R"({"subdomain":"s"})"), "c.local") == "web.s.shop.svc.c.local");
}

TEST_CASE("all labels as a file: by name, quoted, without a newline at the end") {
  json::value pod = pod_with(R"({"name":"c"})");
  pod.at("metadata").as_object()["labels"] = json::object{{"zone", "z"}, {"app", "a \"b\""}, {"b/c", ""}};
  CHECK(field_value(inputs_of(pod), "metadata.labels").value() ==
        "app=\"a \\\"b\\\"\"\nb/c=\"\"\nzone=\"z\"");
}

TEST_CASE("a missing ConfigMap, Secret or key is named in kubelet's words") {
  struct Row {
    const char *env, *message;
  };
  for (const Row& row :
       {Row{R"({"name":"A","valueFrom":{"configMapKeyRef":{"name":"no","key":"k"}}})",
            "configmap \"no\" not found"},
        {R"({"name":"A","valueFrom":{"secretKeyRef":{"name":"no","key":"k"}}})", "secret \"no\" not found"},
        {R"({"name":"A","valueFrom":{"secretKeyRef":{"name":"keys","key":"k"}}})",
         "couldn't find key k in Secret shop/keys"}}) {
    const json::value pod = pod_with(std::string(R"({"name":"c","env":[)") + row.env + "]}");
    const auto env = make_environment(inputs_of(pod));
    REQUIRE_FALSE(env);
    CHECK(env.error().message() == row.message);
  }
}

TEST_CASE("command and args replace entrypoint and command of the image as in Kubernetes") {
  ImageInfo image;
  image.reference = "img";
  image.entrypoint = {"/entry"};
  image.command = {"default"};
  struct Row {
    const char* container;
    std::vector<std::string> args;
  };
  for (const Row& row : {Row{R"({"name":"c"})", {"/entry", "default"}},
                         {R"({"name":"c","args":["a"]})", {"/entry", "a"}},
                         {R"({"name":"c","command":["/b"]})", {"/b"}},
                         {R"j({"name":"c","command":["/b"],"args":["$(V)"]})j", {"/b", "v"}}}) {
    CHECK(make_arguments(*parse_json(row.container), image, {{"V", "v"}}).value() == row.args);
  }
  CHECK_FALSE(make_arguments(*parse_json(R"({"name":"c"})"), ImageInfo{}, {}));
}

TEST_CASE("service variables have the names of upstream") {
  std::map<std::string, std::string> out;
  add_service_variables(*parse_json(R"({"metadata":{"name":"redis-db"},"spec":{"clusterIP":"10.96.0.9",
    "ports":[{"name":"main-port","port":6379,"protocol":"TCP"}]}})"),
                        out);
  CHECK(out.at("REDIS_DB_SERVICE_HOST") == "10.96.0.9");
  CHECK(out.at("REDIS_DB_SERVICE_PORT") == "6379");
  CHECK(out.at("REDIS_DB_SERVICE_PORT_MAIN_PORT") == "6379");
  CHECK(out.at("REDIS_DB_PORT_6379_TCP_ADDR") == "10.96.0.9");
  CHECK(out.at("REDIS_DB_PORT") == "tcp://10.96.0.9:6379");
  add_service_variables(*parse_json(R"({"metadata":{"name":"six"},"spec":{"clusterIP":"fd00:10:96::9",
      "ports":[{"port":80}]}})"),
                        out);
  CHECK(out.at("SIX_SERVICE_HOST") == "fd00:10:96::9");
  CHECK(out.at("SIX_PORT") == "tcp://[fd00:10:96::9]:80");
  out.clear();
  add_service_variables(
      *parse_json(R"({"metadata":{"name":"h"},"spec":{"clusterIP":"None","ports":[{"port":1}]}})"), out);
  CHECK(out.empty());
}

TEST_CASE("base64 is decoded, garbage is refused") {
  CHECK(decode_base64("aGVsbG8=") == "hello");
  CHECK(decode_base64("aGVsbG8h") == "hello!");
  CHECK(decode_base64("aA==") == "h");
  CHECK(decode_base64("") == "");
  CHECK_FALSE(decode_base64("a*b"));
}
