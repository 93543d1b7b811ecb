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
      : engine_(engine),
        client_(std::move(client)),
        options_(std::move(options)),
        model_(options_.loopback_ranges) {}
  ~FeedImpl() override { stop_informers(); }

  Result<void> start() {
    add({"v1", "services"}, NetworkKind::service);
    add({"discovery.k8s.io/v1", "endpointslices"}, NetworkKind::endpoint_slice);
    add({"v1", "pods"}, NetworkKind::pod);
    add({"v1", "nodes"}, NetworkKind::node);
    add({"v1", "namespaces"}, NetworkKind::name_space);
    if (options_.ingresses) {
      add({"networking.k8s.io/v1", "ingresses"}, NetworkKind::ingress);
      add({"networking.k8s.io/v1", "ingressclasses"}, NetworkKind::ingress_class);
      add({"v1", "secrets"}, NetworkKind::secret, "type=kubernetes.io/tls");
    }
    if (options_.network_policies) {
      add({"networking.k8s.io/v1", "networkpolicies"}, NetworkKind::network_policy);
    }
    std::weak_ptr<FeedImpl> weak = weak_from_this();
    for (std::size_t i = 0; i < sources_.size(); ++i) {
      InformerCore& informer = *sources_[i].informer;
      informer.on_event([weak, i](const Object& old, const Object& now) {
        if (auto self = weak.lock()) self->changed(i, old, now);
      });
      ORC_TRY(informer.start());
      // Its handlers have heard of the whole list by then.
      informer.wait_synced().on_ready([weak, i](Result<void> synced) {
        auto self = weak.lock();
        if (self && synced) self->changed(i, {}, {});
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
    NetworkKind kind;
    std::unique_ptr<InformerCore> informer;
  };
  struct Change {
    std::size_t source;
    Object old, now;  ///< both empty: the first list is complete
  };

  void add(ResourceRef resource, NetworkKind kind, std::string fields = {}) {
    InformerOptions options;
    options.fields = std::move(fields);
    sources_.push_back(
        {kind, std::make_unique<InformerCore>(engine_, client_, std::move(resource), options)});
  }

  void stop_informers() {
    for (auto& source : sources_) source.informer->stop();
  }

  static bool is_complete(const NetworkSnapshot& snapshot) {
    const auto& synced = snapshot.synced;
    return synced.services && synced.endpoint_slices && synced.pods && synced.namespaces;
  }

  void changed(std::size_t source, const Object& old, const Object& now) {
    std::lock_guard lock(mutex_);
    if (stopped_) return;
    changes_.push_back({source, old, now});
    revision_ = std::max(revision_, sources_[source].informer->revision());
    if (!building_ && !pausing_) start_building();
  }

  /// With mutex_ held.
  void start_building() {
    building_ = true;
    auto queued = engine_.post_blocking([self = shared_from_this()] { self->build(); });
    if (!queued) building_ = false;  // the engine stops, or its queue is full and the next change tries again
  }

  void build() {
    std::vector<Change> changes;
    std::int64_t revision = 0;
    {
      std::lock_guard lock(mutex_);
      changes.swap(changes_);
      revision = revision_;
    }
    for (const Change& change : changes) {
      const NetworkKind kind = sources_[change.source].kind;
      if (change.now) {
        model_.put(kind, change.now);
      } else if (change.old) {
        model_.remove(kind, change.old);
      } else {
        model_.set_synced(kind, true);
      }
    }
    publish(model_.snapshot(revision));
    std::lock_guard lock(mutex_);
    building_ = false;
    idle_.notify_all();
    if (changes_.empty() || stopped_) return;
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
  NetworkModel model_;  // of the build that is running

  mutable std::mutex mutex_;
  std::condition_variable idle_;
  bool building_ = false, pausing_ = false, stopped_ = false;
  std::vector<Change> changes_;  // that no snapshot has yet
  std::int64_t revision_ = 0;
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
