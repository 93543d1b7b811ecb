// What one object costs: decoding, defaults and rules, patches, an expression, OpenAPI; on a pod of 5.6 kB,
// beside what Boost.JSON alone needs to parse it.
#include "api/apply/managed_fields.hpp"
#include "api/cel/program.hpp"
#include "api/content.hpp"
#include "api/openapi.hpp"
#include "api/patches.hpp"
#include "api/protobuf.hpp"
#include "api/types.hpp"
#include "api/walker.hpp"
#include "base/tree_memory.hpp"
#include "bench/api_support.hpp"

namespace orchestra::bench::server_area {
namespace {

/// As a user writes one: two containers with variables, probes and mounts; 5.6 kB of JSON.
json::value full_pod() {
  json::array containers, volumes, mounts;
  for (int v = 0; v < 6; ++v) {
    const std::string name = "volume-" + std::to_string(v);
    volumes.push_back(
        json::object{{"name", name}, {"configMap", json::object{{"name", "settings-" + name}}}});
    mounts.push_back(
        json::object{{"name", name}, {"mountPath", "/etc/settings/" + name}, {"readOnly", true}});
  }
  for (const char* name : {"main", "sidecar"}) {
    json::array env;
    for (int i = 0; i < 20; ++i)
      env.push_back(json::object{{"name", "SETTING_NUMBER_" + std::to_string(i)},
                                 {"value", "the value of setting " + std::to_string(i)}});
    const json::object probe{{"httpGet", json::object{{"path", "/healthz"}, {"port", 8080}}},
                             {"periodSeconds", 5}};
    containers.push_back(json::object{
        {"name", name},
        {"image", "registry.test/team/web:v1.2.3"},
        {"command", json::array{"/bin/web", "--listen=:8080"}},
        {"env", std::move(env)},
        {"volumeMounts", mounts},
        {"livenessProbe", probe},
        {"readinessProbe", probe},
        {"ports", json::array{json::object{{"name", "http"}, {"containerPort", 8080}}}},
        {"resources", json::object{{"requests", json::object{{"cpu", "100m"}, {"memory", "128Mi"}}}}}});
  }
  return json::object{
      {"apiVersion", "v1"},
      {"kind", "Pod"},
      {"metadata", json::object{{"name", "web-5d4f8c7b9-abcde"},
                                {"namespace", "default"},
                                {"labels", json::object{{"app", "web"}, {"tier", "front"}}},
                                {"annotations", json::object{{"note", std::string(700, 'n')}}}}},
      {"spec", json::object{{"containers", std::move(containers)},
                            {"volumes", std::move(volumes)},
                            {"terminationGracePeriodSeconds", 30}}}};
}

/// Microseconds of one call, the median of rounds of ten.
template <class F>
double median_us(int rounds, F run) {
  std::vector<double> times;
  for (int round = 0; round < rounds; ++round) {
    const std::int64_t begin = now_ns();
    for (int i = 0; i < 10; ++i) run();
    times.push_back(static_cast<double>(now_ns() - begin) / 1e4);
  }
  return percentile(times, 0.5);
}
}  // namespace

void measure_codecs(const Options& options, Report& report) {
  using namespace api;
  const int rounds = options.quick ? 100 : 500;
  const GroupVersionKind gvk{"", "v1", "Pod"};
  const TypePtr record = TypeRegistry::builtin()->find_kind(gvk);
  const SchemaRef schema = record->versions.front().schema;
  const json::value tree = full_pod();
  const std::string text = to_json(tree);
  const std::string size = std::to_string(text.size()) + " bytes of JSON";
  std::size_t used = 0;  // so that no work is left out

  const double bare = median_us(rounds, [&] { used += json::parse(text).as_object().size(); });
  // Into the memory of a request, as the server does.
  const auto decode = [&](const std::string& body, BodyFormat format) {
    return decode_body(body, format, gvk, schema, json::make_shared_resource<TreeMemory>())
        .value()
        .tree.get_object()
        .size();
  };
  const double decoded = median_us(rounds, [&] { used += decode(text, BodyFormat::json); });
  report.add({"decode_json_us", decoded, "us", 1.3 * bare, "<=", std::nullopt,
              size + "; Boost.JSON alone parses it in " + std::to_string(bare) + " us"});
  const std::string message = protobuf_envelope("v1", "Pod", encode_protobuf_message(tree, schema).value());
  report.add({"decode_proto_us", median_us(rounds, [&] { used += decode(message, BodyFormat::protobuf); }),
              "us", decoded, "<=", std::nullopt,
              std::to_string(message.size()) + " bytes; the goal is decode_json_us"});

  const double copied = median_us(rounds, [&] { used += json::value(tree).as_object().size(); });
  const double judged = median_us(rounds, [&] {
    json::value object = tree;
    apply_defaults(schema, object);
    used += validate_create(*record, schema, object).empty() ? 1 : 0;
  });
  report.add({"default_validate_us", judged - copied, "us", std::nullopt, "<=", std::nullopt,
              "without the copy of the tree"});

  const json::value patch = parse_json(R"({"metadata":{"labels":{"tier":"back"}},"spec":{
      "$setElementOrder/containers":[{"name":"main"},{"name":"sidecar"}],
      "containers":[{"name":"sidecar","image":"registry.test/team/web:v1.2.4","env":[{"name":"SETTING_NUMBER_7","value":"other"}]}]}})")
                                .value();
  report.add({"strategic_us",
              median_us(rounds,
                        [&] {
                          json::value object = tree;
                          strategic_merge_patch(schema, object, patch).value();
                          used += object.get_object().size();
                        }) -
                  copied,
              "us", std::nullopt, "<=", std::nullopt, "one variable and the image of one container"});

  {
    // Server-side apply through the whole pipeline in process, each time with another label.
    Server server;
    const Client client = server.server->client();
    std::vector<double> times;
    for (int i = 0; i < rounds * 4; ++i) {
      json::value wanted = tree;
      set_at(wanted, "/metadata/labels/turn", json::value(std::to_string(i)));
      const Object object = object_from_tree(std::move(wanted));
      const std::int64_t begin = now_ns();
      client.apply(object, {.field_manager = "bench"}).wait(std::chrono::seconds(5)).value();
      times.push_back(static_cast<double>(now_ns() - begin) / 1e3);
    }
    report.add({"apply_us", percentile(times, 0.5), "us", 300.0, "<=", std::nullopt,
                "server-side apply in process: merge, owners, rules, store"});
  }

  const auto documents = [&] {
    std::size_t bytes = openapi_v2_json(*TypeRegistry::builtin()).size();
    for (const auto& version : TypeRegistry::builtin()->group_versions())
      bytes += openapi_v3(*TypeRegistry::builtin(), version.group, version.version).size();
    return bytes;
  };
  const std::int64_t begin = now_ns();
  const std::size_t bytes = documents();
  report.add({"openapi_ms", ms_since(begin), "ms", std::nullopt, "<=", std::nullopt,
              "v2 and all documents of v3, " + std::to_string(bytes / 1000) + " kB; they are made once"});

  const auto program = cel::Program::compile("self.replicas >= 0 && self.replicas <= 10", {"self"}).value();
  const json::value self = json::object{{"replicas", 3}};
  const cel::Program::Variables variables{{"self", cel::from_json(self)}};
  report.add({"cel_simple_ns",
              1000 * median_us(rounds,
                               [&] {
                                 cel::Context context;
                                 context.budget = cel::kCallBudget;
                                 if (program.evaluate(variables, context).failed()) std::abort();
                                 used += context.cost;
                               }),
              "ns", std::nullopt, "<=", std::nullopt, program.text()});
  if (used == 0) std::abort();
}

}  // namespace orchestra::bench::server_area
