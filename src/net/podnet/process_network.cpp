// The pod network of isolation level process: addresses only.
//
// All of 127/8 is local to every Linux machine, so a pod that is a plain process can have an address of
// its own without anybody's permission: 127.128.0.0/12, a /24 per node. Nothing is configured, nothing
// has to be removed; only the journal says who has which address. A hostPort is a userspace relay, unless the
// program itself listens on that port of every address of the machine. Rates are not limited, and say so.
#include <ifaddrs.h>
#include <netinet/in.h>

#include <algorithm>

#include "api/pod_attacher.hpp"
#include "base/engine_impl.hpp"
#include "base/fd.hpp"
#include "net/lb/userspace_relay.hpp"
#include "net/podnet/address_pool.hpp"
#include "net/podnet/machine_addresses.hpp"
#include "net/serial_queue.hpp"
#include "orchestra/env.hpp"
#include "orchestra/pod_network.hpp"

namespace orchestra {
namespace net {
namespace {

constexpr int kNodesMax = 4096;  // /24 parts of 127.128.0.0/12
constexpr std::size_t kJournalBytesMax = 1 << 20;
constexpr int kLoopbackMtu = 65536;

constexpr std::uint32_t kPodsBase = 0x7f800000u;  // 127.128.0.0/12

}  // namespace

std::vector<std::uint32_t> machine_addresses() {
  std::vector<std::uint32_t> out;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return {INADDR_LOOPBACK};
  for (const ifaddrs* one = list; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || one->ifa_addr->sa_family != AF_INET) continue;
    out.push_back(ntohl(reinterpret_cast<const sockaddr_in*>(one->ifa_addr)->sin_addr.s_addr));
  }
  ::freeifaddrs(list);
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

namespace {

class ProcessNetwork final : public PodAttacher, public std::enable_shared_from_this<ProcessNetwork> {
 public:
  ProcessNetwork(Engine& engine, std::string path, AddressPool pool)
      : engine_(engine),
        path_(std::move(path)),
        gateway_(pool.node_address().to_string()),
        queue_(std::make_shared<SerialQueue>(engine)),
        pool_(std::move(pool)),
        shared_(std::make_shared<RelayShared>(event_context(engine), engine.random(), engine.clock())) {}
  ~ProcessNetwork() override {
    for (auto& [uid, relays] : relays_) close(relays);
  }

  Pending<Attachment> attach(AttachRequest request) override {
    return queue_->run(
        [self = shared_from_this(), request = std::move(request)] { return self->attach_now(request); });
  }

  Pending<void> detach(std::string pod_uid) override {
    return queue_->run([self = shared_from_this(), pod_uid = std::move(pod_uid)]() -> Result<void> {
      std::lock_guard lock(self->mutex_);
      if (const auto relays = self->relays_.find(pod_uid); relays != self->relays_.end()) {
        close(relays->second);
        self->relays_.erase(relays);
      }
      if (!self->pool_.release(pod_uid, self->engine_.clock().now().wall_ns)) return {};
      return self->save();
    });
  }

  Result<std::vector<Attachment>> list() override {
    std::lock_guard lock(mutex_);
    std::vector<Attachment> out;
    for (const auto& lease : pool_.leases()) out.push_back(describe(lease));
    return out;
  }

  std::string dns_address() const override { return gateway_; }
  std::string node_address() const override { return gateway_; }

 private:
  using Relays = std::vector<std::shared_ptr<Relay>>;

  Result<Attachment> attach_now(const AttachRequest& request) {
    if (request.pod_uid.empty()) return Error(Error::invalid, "podnet", "attach needs the pod's uid");
    std::lock_guard lock(mutex_);
    ORC_ASSIGN(const auto lease,
               pool_.reserve(request.pod_uid, request.ns, request.name, engine_.clock().now().wall_ns));
    ORC_ASSIGN(const bool changed, pool_.set_host_ports(request.pod_uid, request.host_ports));
    (void)changed;  // relays do not outlive the process: they are made for each attach
    ORC_TRY(save());
    auto& relays = relays_[request.pod_uid];
    close(relays);
    relays.clear();
    for (const HostPort& port : request.host_ports) {
      if (port.host_port == port.pod_port && !request.binds_pod_address) continue;
      auto opened = open_relays(port, lease.address.v4_number(), relays);
      if (opened) continue;
      close(relays);  // all or none: what does not lead to a pod that runs must not take ports
      relays_.erase(request.pod_uid);
      return opened.error().with_context("host port " + to_string(port));
    }
    Attachment out = describe(lease);
    if (request.ingress_bits != 0 || request.egress_bits != 0)
      out.warnings.push_back("bandwidth is not limited: pods of this node have no links of their own");
    return out;
  }

  Result<void> open_relays(const HostPort& port, std::uint32_t pod, Relays& out) {
    if (port.protocol == IpProtocol::sctp)
      return Error(Error::unsupported, "podnet", "the userspace relay serves TCP and UDP only");
    std::vector<std::uint32_t> addresses = machine_addresses();
    if (!port.host_address.empty()) {
      const auto one = IpAddress::parse(port.host_address);
      if (!one || !one->is_v4())
        return Error(Error::unsupported, "podnet", "hostIP " + port.host_address + " is not IPv4");
      addresses = {one->v4_number()};
    }
    const RelayTargets to{.list = {{pod, port.pod_port}}};
    for (const std::uint32_t address : addresses) {
      const bool tcp = port.protocol == IpProtocol::tcp;
      ORC_ASSIGN(auto relay, tcp ? start_tcp_relay(shared_, address, port.host_port, to)
                                 : start_udp_relay(shared_, address, port.host_port, to));
      out.push_back(std::move(relay));
    }
    return {};
  }

  static void close(const Relays& relays) {
    for (const auto& relay : relays) relay->close();
  }

  static Attachment describe(const AddressPool::Lease& lease) {
    return {lease.pod_uid, {lease.address.to_string()}, "lo", kLoopbackMtu};
  }
  Result<void> save() { return replace_file(path_, pool_.journal(), 0600, false); }

  Engine& engine_;
  std::string path_;
  std::string gateway_;
  std::shared_ptr<SerialQueue> queue_;
  std::mutex mutex_;
  AddressPool pool_;
  std::shared_ptr<RelayShared> shared_;
  std::map<std::string, Relays> relays_;  // by pod
};

}  // namespace
}  // namespace net

Result<std::shared_ptr<PodAttacher>> make_process_pod_network(Engine& engine,
                                                              ProcessPodNetworkOptions options) {
  using namespace net;
  if (options.node_index < 0 || options.node_index >= kNodesMax) {
    return Error(
        Error::invalid, "podnet",
        "node index " + std::to_string(options.node_index) + " has no part of 127.128.0.0/12 (0 to 4095)");
  }
  const auto base = kPodsBase + static_cast<std::uint32_t>(options.node_index) * 256;
  const IpRange range{IpAddress::v4(base), 24};
  ORC_ASSIGN(AddressPool pool, AddressPool::create(range, options.address_cooldown.count()));
  ORC_TRY(make_directories(options.data_dir, 0700));
  const std::string path = options.data_dir + "/addresses.json";
  auto text = read_file(path, kJournalBytesMax);
  if (text) {
    auto loaded = pool.load(*text, engine.clock().now().wall_ns);
    if (!loaded) {
      engine.log(LogLevel::warning, "podnet", "the address journal starts anew",
                 {{"error", loaded.error().to_string()}});
      ORC_ASSIGN(pool, AddressPool::create(range, options.address_cooldown.count()));
    }
  } else if (!text.error().is(Error::not_found)) {
    return text.error();
  }
  return std::shared_ptr<PodAttacher>(std::make_shared<ProcessNetwork>(engine, path, std::move(pool)));
}

}  // namespace orchestra
