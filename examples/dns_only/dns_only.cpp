// A DNS server in one's own program: a zone from a file, one that the program answers itself, and upstream
// servers for all other names. Serves until its input ends.
//   dns_only ZONE_FILE LISTEN [UPSTREAM..]       dns_only shop.zone 127.0.0.1:5353 192.0.2.53
#include <cstdio>
#include <cstdlib>
#include <string>

#include <orchestra/dns_server.hpp>

namespace {

/// "anything.count.example" has a TXT record with the length of its name, and so on.
orchestra::DnsReply answer(const orchestra::DnsAsked& asked) {
  if (asked.type != "TXT") return {};
  return {.records = {"@ 5 TXT \"" + std::to_string(asked.name.size()) + " octets\""}};
}

int failed(const orchestra::Error& error) {
  std::fprintf(stderr, "dns_only: %s\n", error.message().c_str());
  return EXIT_FAILURE;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return std::fprintf(stderr, "usage: dns_only ZONE_FILE LISTEN [UPSTREAM..]\n"), 2;
  orchestra::Engine engine;
  orchestra::DnsServerOptions options{.listen = {argv[2]}, .forward = {argv + 3, argv + argc}};
  options.zone.clear();  // no cluster
  const auto server = orchestra::DnsServer::create(engine, options);
  if (!server) return failed(server.error());

  const auto shop = orchestra::DnsZone::from_master_file(argv[1], "shop.example");
  if (!shop) return failed(shop.error());
  const auto count = orchestra::DnsZone::from_callback("count.example", answer);
  for (const auto& zone : {*shop, *count}) {
    if (const auto added = (*server)->add_zone(zone); !added) return failed(added.error());
  }

  std::printf("dns %s\n", (*server)->addresses().at(0).c_str());
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  std::printf("%llu questions\n", static_cast<unsigned long long>((*server)->stats().queries));
  (*server)->stop();
  return EXIT_SUCCESS;
}
