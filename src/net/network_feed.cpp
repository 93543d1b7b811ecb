#include "orchestra/network_feed.hpp"

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "orchestra/informer.hpp"

namespace orchestra {
namespace {

constexpr Duration kBuildPause = std::chrono::milliseconds(1);
constexpr Duration kStopDeadline = std::chrono::seconds(5);

class FeedImpl final : public NetworkFeed, public std::enable_shared_from_this<FeedImpl> {
 public:
  FeedImpl(Engine& engine, Client client, NetworkFeedOptions options)
      : engine_(engine), client_(std::move(client)), options_(std::move(options)) {}
  ~FeedImpl() override { stop_informers(); }

  Result<void> start() {
    add({"v1", "services"}, &NetworkInputs::services);
    add({"discovery.k8s.io/v1", "endpointslices"}, &NetworkInputs::endpoint_slices);
    add({"v1", "pods"}, &NetworkInputs::pods);
    add({"v1", "nodes"}, &NetworkInputs::nodes);
    add({"v1", "namespaces"}, &NetworkInputs::namespaces);
    if (options_.ingresses) {
      add({"networking.k8s.io/v1", "ingresses"}, &NetworkInputs::ingresses);
      add({"networking.k8s.io/v1", "ingressclasses"}, &NetworkInputs::ingress_classes);
      add({"v1", "secrets"}, &NetworkInputs::secrets, "type=kubernetes.io/tls");
    }
    if (options_.network_policies) {
      add({"networking.k8s.io/v1", "networkpolicies"}, &NetworkInputs::network_policies);
    }
    for (auto& source : sources_) {
      std::weak_ptr<FeedImpl> weak = weak_from_this();
      source.informer->on_event([weak](const Object&, const Object&) {
        if (auto self = weak.lock()) self->changed();
      });
      ORC_TRY(source.informer->start());
      source.informer->wait_synced().on_ready([weak](Result<void>) {
        if (auto self = weak.lock()) self->changed();
      });
    }
    return {};
  }

  void subscribe(Subscriber subscriber) override {
    std::lock_guard order(publish_mutex_);
    std::shared_ptr<const NetworkSnapshot> newest = latest();
    if (newest) subscriber(newest);
    subscribers_.push_back(std::move(subscriber));
  }

  std::shared_ptr<const NetworkSnapshot> latest() const override {
    std::lock_guard lock(mutex_);
    return latest_;
  }

  Pending<void> wait_synced() override {
    std::lock_guard lock(mutex_);
    if (latest_ && is_complete(*latest_)) return Result<void>();
    waiters_.emplace_back();
    return waiters_.back().pending();
  }

  void stop() override {
    {
      std::unique_lock lock(mutex_);
      stopped_ = true;
      // Bounded: an engine that was stopped first drops the build it had queued.
      idle_.wait_for(lock, kStopDeadline, [&] { return !building_; });
      waiters_.clear();
    }
    stop_informers();
  }

 private:
  struct Source {
    NetworkInput NetworkInputs::*input;
    std::unique_ptr<InformerCore> informer;
  };

  void add(ResourceRef resource, NetworkInput NetworkInputs::*input, std::string fields = {}) {
    InformerOptions options;
    options.fields = std::move(fields);
    sources_.push_back(
        {input, std::make_unique<InformerCore>(engine_, client_, std::move(resource), options)});
  }

  void stop_informers() {
    for (auto& source : sources_) source.informer->stop();
  }

  static bool is_complete(const NetworkSnapshot& snapshot) {
    const auto& synced = snapshot.synced;
    return synced.services && synced.endpoint_slices && synced.pods && synced.namespaces;
  }

  void changed() {
    std::lock_guard lock(mutex_);
    dirty_ = true;
    if (building_ || pausing_ || stopped_) return;
    start_building();
  }

  /// With mutex_ held.
  void start_building() {
    building_ = true;
    auto queued = engine_.post_blocking([self = shared_from_this()] { self->build(); });
    if (!queued) building_ = false;  // the engine stops, or its queue is full and the next change tries again
  }

  void build() {
    NetworkInputs inputs;
    std::shared_ptr<const NetworkSnapshot> previous;
    {
      std::lock_guard lock(mutex_);
      dirty_ = false;
      previous = latest_;
    }
    inputs.loopback_ranges = options_.loopback_ranges;
    for (auto& source : sources_) {
      NetworkInput& input = inputs.*source.input;
      input.synced =
          source.informer->synced();  // read before the list: never a complete mark on an older list
      input.objects = source.informer->cache().list();
      inputs.revision = std::max(inputs.revision, source.informer->revision());
    }
    auto snapshot = NetworkSnapshot::build(inputs, previous.get());
    publish(snapshot);
    std::lock_guard lock(mutex_);
    building_ = false;
    idle_.notify_all();
    if (!dirty_ || stopped_) return;
    pausing_ = true;
    engine_.after(kBuildPause, [self = shared_from_this()] {
      std::lock_guard relock(self->mutex_);
      self->pausing_ = false;
      if (!self->stopped_) self->start_building();
    });
  }

  void publish(const std::shared_ptr<const NetworkSnapshot>& snapshot) {
    std::vector<Promise<void>> done;
    std::lock_guard order(publish_mutex_);
    {
      std::lock_guard lock(mutex_);
      if (stopped_) return;
      latest_ = snapshot;
      if (is_complete(*snapshot)) done.swap(waiters_);
    }
    for (const auto& subscriber : subscribers_) subscriber(snapshot);
    for (const auto& waiter : done) waiter.set({});
  }

  Engine& engine_;
  Client client_;
  const NetworkFeedOptions options_;
  std::vector<Source> sources_;

  mutable std::mutex mutex_;
  std::condition_variable idle_;
  bool dirty_ = false, building_ = false, pausing_ = false, stopped_ = false;
  std::shared_ptr<const NetworkSnapshot> latest_;
  std::vector<Promise<void>> waiters_;

  std::mutex publish_mutex_;  // keeps snapshots in order for all subscribers
  std::vector<Subscriber> subscribers_;
};

}  // namespace

Result<std::shared_ptr<NetworkFeed>> NetworkFeed::start(Engine& engine, Client client,
                                                        NetworkFeedOptions options) {
  auto feed = std::make_shared<FeedImpl>(engine, std::move(client), std::move(options));
  ORC_TRY(feed->start());
  return std::shared_ptr<NetworkFeed>(std::move(feed));
}

}  // namespace orchestra
