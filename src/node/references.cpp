// What pods of this node name: see references.hpp.
#include "node/references.hpp"

#include "orchestra/env.hpp"

namespace orchestra::node {
namespace {
constexpr Duration kFirstAnswer = std::chrono::seconds(10);
}

References::References(Engine& engine, Client client, ResourceRef resource, bool one_by_one)
    : engine_(engine),
      client_(client),
      resource_(resource),
      all_(one_by_one ? nullptr : std::make_unique<InformerCore>(engine, client, std::move(resource))) {}

References::~References() { stop(); }

void References::on_event(InformerCore::Handler handler) {
  if (all_) return all_->on_event(std::move(handler));
  handler_ = std::move(handler);
}

Result<void> References::start() { return all_ ? all_->start() : Result<void>(); }
Pending<void> References::wait_synced() {
  if (all_) return all_->wait_synced();
  return Result<void>();
}

void References::stop() {
  if (all_) all_->stop();
  std::map<ObjectKey, Followed> all;
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
    all.swap(followed_);
  }
  for (const auto& [key, one] : all) one.informer->stop();
}

Result<Object> References::get(const std::string& ns, const std::string& name) {
  if (all_) return all_->cache().get(ns, name);
  std::shared_ptr<InformerCore> informer;
  {
    std::lock_guard lock(mutex_);
    if (stopped_) return Error(Error::cancelled, "node", "the agent stops");
    Followed& one = followed_[{ns, name}];
    one.asked_ns = engine_.clock().now().steady_ns;
    if (!one.informer) {
      InformerOptions options;
      options.ns = ns;
      options.fields = "metadata.name=" + name;
      one.informer = std::make_shared<InformerCore>(engine_, client_, resource_, options);
      if (handler_) one.informer->on_event(handler_);
      ORC_TRY(one.informer->start());
    }
    informer = one.informer;
  }
  if (!informer->synced()) {
    if (auto synced = informer->wait_synced().wait(kFirstAnswer); !synced) {
      const std::string why = informer->last_error();
      return Error(Error::unavailable, "node",
                   resource_.resource + " " + ns + "/" + name +
                       " could not be read: " + (why.empty() ? synced.error().to_string() : why));
    }
  }
  return informer->cache().get(ns, name);
}

void References::forget_unused() {
  std::vector<std::shared_ptr<InformerCore>> unused;
  {
    std::lock_guard lock(mutex_);
    const std::int64_t now = engine_.clock().now().steady_ns;
    for (auto it = followed_.begin(); it != followed_.end();) {
      if (now - it->second.asked_ns < kForgetAfter.count()) {
        ++it;
        continue;
      }
      unused.push_back(it->second.informer);
      it = followed_.erase(it);
    }
  }
  for (const auto& one : unused) one->stop();
}

std::size_t References::followed() const {
  std::lock_guard lock(mutex_);
  return followed_.size();
}

}  // namespace orchestra::node
