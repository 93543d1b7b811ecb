// The informers that several controllers share: one per resource, made on first use.
#include <algorithm>
#include <mutex>

#include "orchestra/reconciler.hpp"

namespace orchestra {

struct InformerSet::Impl {
  Engine& engine;
  const Client client;
  mutable std::mutex mutex;
  std::map<ResourceRef, std::unique_ptr<InformerCore>> informers;
  std::vector<std::unique_ptr<InformerCore>> retired;
  bool started = false;

  std::vector<InformerCore*> all() const {
    std::lock_guard lock(mutex);
    std::vector<InformerCore*> list;
    for (const auto& [resource, informer] : informers) list.push_back(informer.get());
    return list;
  }
};

InformerSet::InformerSet(Engine& engine, Client client)
    : impl_(new Impl{engine, std::move(client), {}, {}, {}, false}) {}
InformerSet::~InformerSet() { stop(); }

InformerCore& InformerSet::informer(const ResourceRef& resource) {
  std::lock_guard lock(impl_->mutex);
  auto& slot = impl_->informers[resource];
  if (!slot) {
    slot = std::make_unique<InformerCore>(impl_->engine, impl_->client, resource);
    if (impl_->started) (void)slot->start();  // fails only without a client, which start() has checked
  }
  return *slot;
}

void InformerSet::retire(const ResourceRef& resource) {
  InformerCore* gone = nullptr;
  {
    std::lock_guard lock(impl_->mutex);
    const auto found = impl_->informers.find(resource);
    if (found == impl_->informers.end()) return;
    gone = impl_->retired.emplace_back(std::move(found->second)).get();
    impl_->informers.erase(found);
  }
  gone->stop();
}

Result<void> InformerSet::start() {
  {
    std::lock_guard lock(impl_->mutex);
    impl_->started = true;
  }
  for (InformerCore* informer : impl_->all()) ORC_TRY(informer->start());
  return {};
}

void InformerSet::stop() {
  for (InformerCore* informer : impl_->all()) informer->stop();
}

bool InformerSet::synced() const {
  const auto all = impl_->all();
  return std::all_of(all.begin(), all.end(), [](const InformerCore* informer) { return informer->synced(); });
}

InformerCore* InformerSet::find_informer(const ResourceRef& resource) const {
  std::lock_guard lock(impl_->mutex);
  const auto found = impl_->informers.find(resource);
  return found == impl_->informers.end() ? nullptr : found->second.get();
}

std::vector<ResourceRef> InformerSet::resources() const {
  std::lock_guard lock(impl_->mutex);
  std::vector<ResourceRef> resources;
  for (const auto& [resource, informer] : impl_->informers) resources.push_back(resource);
  return resources;
}

const ObjectCache* InformerSet::cache(const ResourceRef& resource) const {
  const InformerCore* informer = find_informer(resource);
  return informer == nullptr ? nullptr : &informer->cache();
}

}  // namespace orchestra
