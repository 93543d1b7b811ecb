// Which kind of ServiceProxy this machine gets.
#include "orchestra/service_proxy.hpp"
#include "net/lb/nft_proxy.hpp"
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

}  // namespace orchestra
