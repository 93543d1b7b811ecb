// A large cluster in one server: 5,000 nodes, 150,000 pods, 10,000 Services, 10,000 namespaces. Is everything
// there, how long do requests take, how much memory is it?
//
// An area of its own, which `api` starts as a program of its own: memory is only seen in a heap that nothing
// used before.
#include "bench/api_support.hpp"

namespace orchestra::bench::server_area {
namespace {
using namespace std::chrono_literals;

Object named(const char* api_version, const char* kind, const std::string& name, const std::string& ns,
             const std::string& rest) {
  return Object::from_json(std::string(R"({"apiVersion":")") + api_version + R"(","kind":")" + kind +
                           R"(","metadata":{"name":")" + name + "\"" +
                           (ns.empty() ? "" : R"(,"namespace":")" + ns + "\"") + "}" + rest + "}")
      .value();
}

/// How many objects a list has, in pages, as a client counts them.
std::size_t count_of(const Client& client, const std::string& resource) {
  std::size_t count = 0;
  ListOptions options;
  options.limit = 5000;
  do {
    const ObjectList page = client.list("v1", resource, options).wait(60s).value();
    count += page.items.size();
    options.continue_token = page.continue_token;
  } while (!options.continue_token.empty());
  return count;
}

double p99_us(int rounds, const std::function<void(int)>& run) {
  std::vector<double> times;
  for (int round = 0; round < rounds; ++round) {
    const std::int64_t begin = now_ns();
    run(round);
    times.push_back(static_cast<double>(now_ns() - begin) / 1e3);
  }
  return percentile(times, 0.99);
}

void run_api_scale(const Options& options, Report& report) {
  const int part = options.quick ? 10 : 1;  // --quick: a tenth of everything
  const int nodes = 5'000 / part, pods = 150'000 / part, services = 10'000 / part, namespaces = 10'000 / part;
  const std::string size = options.quick ? "a tenth of the size (--quick)"
                                         : "5,000 nodes, 150,000 pods, 10,000 Services, 10,000 namespaces";
  Server server;
  const Client client = server.server->client();
  const auto make_pods = [&](int begin, int end) {
    create_many(client, "v1", "pods", "default", begin, end, [&](int i) {
      return pod(i, kPadding).with("/spec/nodeName", "\"node-" + std::to_string(i % nodes) + "\"").value();
    });
  };
  // The first tenth fills the caches, which do not grow with what is stored.
  make_pods(0, pods / 10);
  const double before = rss_mb();
  make_pods(pods / 10, pods);
  const double taken = rss_mb() - before;
  Connection connection(server.server->insecure_address());
  connection.send("GET", "/api/v1/namespaces/default/pods/pod-100000");
  connection.receive();
  const std::size_t each = connection.body_bytes();
  const int measured = pods - pods / 10;
  report.add({"stored_bytes_per_json_byte", taken * 1e6 / (static_cast<double>(each) * measured), "B/B", 1.3,
              "<=", std::nullopt,
              std::to_string(measured) + " pods of " + std::to_string(each) +
                  " bytes as they are sent, beyond the first " + std::to_string(pods / 10)});
  if (options.quick)
    report.add({"rss_150k_pods_mb", std::nullopt, "MB", 1200.0, "<=", std::nullopt, "only without --quick"});
  else
    report.add(
        {"rss_150k_pods_mb", rss_mb(), "MB", 1200.0, "<=", std::nullopt, "5.6 kB each, all of this process"});

  create_many(client, "v1", "nodes", "", 0, nodes,
              [](int i) { return named("v1", "Node", "node-" + std::to_string(i), "", ""); });
  create_many(client, "v1", "services", "default", 0, services, [](int i) {
    return named("v1", "Service", "service-" + std::to_string(i), "default",
                 R"(,"spec":{"selector":{"app":"web"},"ports":[{"port":80}]})");
  });
  create_many(client, "v1", "namespaces", "", 0, namespaces,
              [](int i) { return named("v1", "Namespace", "space-" + std::to_string(i), "", ""); });

  std::string wrong;
  for (const auto& [resource, wanted] : std::vector<std::pair<std::string, int>>{
           {"nodes", nodes}, {"pods", pods}, {"services", services + 1}, {"namespaces", namespaces + 4}}) {
    const std::size_t found = count_of(client, resource);
    if (found != static_cast<std::size_t>(wanted))
      wrong += " " + resource + ": " + std::to_string(found) + " of " + std::to_string(wanted);
  }
  report.add({"scale_complete", wrong.empty() ? 1.0 : 0.0, "", 1.0, ">=", std::nullopt,
              size + (wrong.empty() ? "" : "; wrong:" + wrong)});

  const int rounds = options.quick ? 500 : 2000;
  const auto ask = [&](const std::string& method, const std::string& path, const std::string& body) {
    connection.send(method, path, body);
    connection.discard();
  };
  report.add(
      {"scale_get_p99_us",
       p99_us(rounds,
              [&](int i) {
                ask("GET",
                    "/api/v1/namespaces/default/pods/pod-" + std::to_string(100'000 + (i * 7919) % pods), "");
              }),
       "us", std::nullopt, "<=", std::nullopt, "by HTTP, " + size});
  report.add({"scale_create_p99_us",
              p99_us(rounds,
                     [&](int i) {
                       ask("POST", "/api/v1/namespaces/default/pods",
                           std::string(pod(500'000 + i, kPadding).json()));
                     }),
              "us", std::nullopt, "<=", std::nullopt, "by HTTP, " + size});
  report.add({"scale_list_one_namespace_p99_us",
              p99_us(rounds,
                     [&](int i) {
                       ask("GET",
                           "/api/v1/namespaces/space-" + std::to_string((i * 7919) % namespaces) +
                               "/configmaps",
                           "");
                     }),
              "us", std::nullopt, "<=", std::nullopt, "by HTTP, " + size});
  report.add({"scale_list_one_node_p99_us",
              p99_us(options.quick ? 20 : 40,
                     [&](int i) {
                       ask("GET",
                           "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-" +
                               std::to_string((i * 7919) % nodes),
                           "");
                     }),
              "us", std::nullopt, "<=", std::nullopt, "all pods are looked at, by HTTP, " + size});
}

const bool api_scale_registered = register_area("api_scale", run_api_scale);
}  // namespace
}  // namespace orchestra::bench::server_area
