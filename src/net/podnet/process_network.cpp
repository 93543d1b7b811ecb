// The pod network of isolation level process: addresses only.
//
// All of 127/8 is local to every Linux machine, so a pod that is a plain process can have an address of
// its own without anybody's permission: 127.128.0.0/12, a /24 per node. Nothing is configured, nothing
// has to be removed; only the journal says who has which address.
#include "api/pod_attacher.hpp"
#include "base/fd.hpp"
#include "net/podnet/address_pool.hpp"
#include "net/serial_queue.hpp"
#include "orchestra/env.hpp"
#include "orchestra/pod_network.hpp"

namespace orchestra {
namespace net {
namespace {

constexpr int kNodesMax = 4096;  // /24 parts of 127.128.0.0/12
constexpr std::size_t kJournalBytesMax = 1 << 20;
constexpr int kLoopbackMtu = 65536;

class ProcessNetwork final : public PodAttacher, public std::enable_shared_from_this<ProcessNetwork> {
 public:
  ProcessNetwork(Engine& engine, std::string path, AddressPool pool)
      : engine_(engine),
        path_(std::move(path)),
        gateway_(pool.node_address().to_string()),
        queue_(std::make_shared<SerialQueue>(engine)),
        pool_(std::move(pool)) {}

  Pending<Attachment> attach(AttachRequest request) override {
    return queue_->run([self = shared_from_this(), request = std::move(request)]() -> Result<Attachment> {
      if (request.pod_uid.empty()) return Error(Error::invalid, "podnet", "attach needs the pod's uid");
      std::lock_guard lock(self->mutex_);
      ORC_ASSIGN(const auto lease, self->pool_.reserve(request.pod_uid, request.ns, request.name,
                                                       self->engine_.clock().now().wall_ns));
      ORC_TRY(self->save());
      return describe(lease);
    });
  }

  Pending<void> detach(std::string pod_uid) override {
    return queue_->run([self = shared_from_this(), pod_uid = std::move(pod_uid)]() -> Result<void> {
      std::lock_guard lock(self->mutex_);
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
  const auto base = 0x7f800000u + static_cast<std::uint32_t>(options.node_index) * 256;
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
