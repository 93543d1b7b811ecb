// Which kind of ServiceProxy this machine gets.
#include "orchestra/service_proxy.hpp"
#include <linux/rtnetlink.h>
#include "net/podnet/in_namespace.hpp"
#include "net/podnet/rtnetlink.hpp"

#include "net/lb/nft_proxy.hpp"
#include "net/lb/nft_transaction.hpp"
#include "net/lb/userspace_proxy.hpp"

namespace orchestra {

Result<std::shared_ptr<ServiceProxy>> ServiceProxy::create(Engine& engine, ServiceProxyOptions options) {
  using Mode = ServiceProxyOptions::Mode;
  if (options.mode == Mode::userspace) return net::make_userspace_proxy(engine, std::move(options));
  auto kernel = net::make_nft_proxy(engine, options);
  if (kernel || options.mode == Mode::nftables || kernel.error().is(Error::invalid)) return kernel;
  engine.log(LogLevel::warning, "lb", "no nftables here: Services go through the userspace relay",
             {{"error", kernel.error().to_string()}});
  return net::make_userspace_proxy(engine, std::move(options));
}

Result<void> net::remove_service_leftovers(const std::string& instance, const std::string& service_cidr,
                                           const NetworkNamespace& name_space) {
  for (const char* family : {"ip ", "ip6 "}) {
    std::string commands;
    for (const char* suffix : {"", "_np"}) {  // Services, policies
      const std::string table = "table " + std::string(family) + nft_table_name(instance, suffix);
      commands += table + "\ndelete " + table + "\n";
    }
    if (auto session = NftSession::open(name_space)) {
      auto removed = (*session)->run(commands);
      // Where nftables does not work, there is no table of ours either.
      if (!removed && !removed.error().is(Error::unsupported)) return removed;
    }
  }
  if (service_cidr.empty()) return {};
  ORC_ASSIGN(const IpRange range, IpRange::parse(service_cidr));
  return in_namespace(name_space, [&]() -> Result<void> {
    ORC_ASSIGN(RouteSocket routes, RouteSocket::open());
    Route route;
    route.destination = range;
    route.type = RTN_LOCAL;
    route.scope = RT_SCOPE_HOST;
    route.table = RT_TABLE_LOCAL;
    return routes.remove_route(route);
  });
}

}  // namespace orchestra
