// A load balancer in one's own program: one address, several backends, no privilege. Serves until its input
// ends; each line of it is a new list of backends.
//   l4_only ADDRESS:PORT BACKEND:PORT..       l4_only 127.96.0.1:8080 127.0.0.1:9001 127.0.0.1:9002
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>

#include <orchestra/service_proxy.hpp>

namespace {

using namespace std::chrono_literals;

std::pair<std::string, std::string> split(const std::string& text) {
  const auto colon = text.rfind(':');
  return {text.substr(0, colon), text.substr(colon + 1)};
}

/// A Service with this address, and its endpoints: what a cluster would have.
std::shared_ptr<const orchestra::NetworkSnapshot> snapshot_of(const std::string& address,
                                                              const std::vector<std::string>& backends,
                                                              int revision) {
  const auto [ip, port] = split(address);
  orchestra::NetworkInputs in{.revision = revision, .loopback_ranges = {"127.0.0.0/8"}};
  const auto object = [](const std::string& json) { return orchestra::Object::from_json(json).value(); };
  in.services.objects = {object(
      R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"own"},"spec":{"clusterIP":")" +
      ip + R"(","clusterIPs":[")" + ip + R"("],"ports":[{"name":"p","port":)" + port + "}]}}")};
  for (std::size_t i = 0; i < backends.size(); ++i) {
    const auto [backend, backend_port] = split(backends[i]);
    in.endpoint_slices.objects.push_back(object(
        R"({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4","metadata":{"name":"web-)" +
        std::to_string(i) +
        R"(","namespace":"own","labels":{"kubernetes.io/service-name":"web"}},"ports":[{"name":"p","port":)" +
        backend_port + R"(}],"endpoints":[{"addresses":[")" + backend +
        R"("],"conditions":{"ready":true}}]})"));
  }
  in.services.synced = in.endpoint_slices.synced = true;
  return orchestra::NetworkSnapshot::build(in);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return std::fprintf(stderr, "usage: l4_only ADDRESS:PORT BACKEND:PORT..\n"), 2;
  orchestra::Engine engine;
  const auto proxy =
      orchestra::ServiceProxy::create(engine, {.mode = orchestra::ServiceProxyOptions::Mode::userspace});
  if (!proxy) return std::fprintf(stderr, "l4_only: %s\n", proxy.error().message().c_str()), EXIT_FAILURE;
  std::vector<std::string> backends(argv + 2, argv + argc);
  std::string line;
  for (int revision = 1; revision == 1 || std::getline(std::cin, line); ++revision) {
    if (revision > 1) {
      std::istringstream words(line);
      backends.assign(std::istream_iterator<std::string>(words), {});
    }
    const auto applied = (*proxy)->apply(snapshot_of(argv[1], backends, revision)).wait(10s);
    if (!applied)
      return std::fprintf(stderr, "l4_only: %s\n", applied.error().message().c_str()), EXIT_FAILURE;
    for (const auto& no : applied->rejected) std::fprintf(stderr, "l4_only: %s\n", no.message.c_str());
    std::printf("%s\n",
                (*proxy)->explain(std::string(argv[1]) + "/tcp").value_or("nothing is served").c_str());
    std::fflush(stdout);
  }
  (void)(*proxy)->teardown().wait(10s);
  return EXIT_SUCCESS;
}
