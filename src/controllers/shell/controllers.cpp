// Controllers: makes the chosen reconcilers and a runner for each, over one set of informers.
#include "orchestra/controllers.hpp"

#include <algorithm>
#include <iterator>
#include <mutex>
#include <utility>

#include "controllers/builtin.hpp"
#include "orchestra/metrics.hpp"

namespace orchestra {

// Whoever deletes across all resources must know the custom ones too. These reconcilers are pure over a fixed
// catalog; when CustomResourceDefinitions come or go they are made anew with the new one.
constexpr const char* kByCatalog[] = {"namespace", "resourcequota", "garbage-collector"};

struct Controllers::Impl : std::enable_shared_from_this<Controllers::Impl> {
  Engine& engine;
  const Client client;
  const ControllersOptions options;
  InformerSet informers;
  EventRecorder events;
  std::vector<std::shared_ptr<const Reconciler>> own;
  std::function<void(const ReconcileDecision&)> on_decision;
  InformerCore definitions;  // CustomResourceDefinitions
  std::mutex catalog_mutex;  // guards the two flags
  bool catalog_dirty = false, catalog_busy = false;
  mutable std::mutex mutex;
  std::vector<controllers::KnownResource> custom;          // of the runners that run now
  std::vector<std::unique_ptr<ControllerRunner>> runners;  // after what they use: they end first
  bool stopped = false;
  std::shared_ptr<void> measured;  // the collector below

  Impl(Engine& engine, Client client, ControllersOptions options)
      : engine(engine),
        client(client),
        options(std::move(options)),
        informers(engine, client),
        events(engine, client),
        definitions(engine, client, {"apiextensions.k8s.io/v1", "customresourcedefinitions"}) {}

  bool wanted(const std::string& name) const {
    const auto has = [&](const std::vector<std::string>& list) {
      return std::find(list.begin(), list.end(), name) != list.end();
    };
    return (options.enable.empty() || has(options.enable)) && !has(options.disable);
  }

  Result<void> check_names() const {
    for (const auto* list : {&options.enable, &options.disable}) {
      for (const std::string& name : *list) {
        const bool builtin = std::find(names().begin(), names().end(), name) != names().end();
        const bool added =
            std::any_of(own.begin(), own.end(), [&](const auto& r) { return r->name() == name; });
        if (!builtin && !added) {
          return Error(Error::invalid, "controllers",
                       "there is no controller '" + name + "'; see Controllers::names()");
        }
      }
    }
    return {};
  }

  controllers::BuiltinOptions builtin_options() const {
    controllers::BuiltinOptions builtin;
    builtin.root_ca_pem = options.root_ca_pem;
    builtin.sign_certificate = options.sign_certificate;
    builtin.volumes.local_root = options.local_volume_root;
    builtin.catalog = controllers::builtin_catalog();
    builtin.catalog.insert(builtin.catalog.end(), custom.begin(), custom.end());
    builtin.node_ipam.cluster_cidr = options.pod_cidr;
    builtin.node_lifecycle.grace = options.node_grace;
    builtin.node_lifecycle.eviction_interval = options.node_eviction_interval;
    return builtin;
  }

  void measure() {
    if (!options.metrics) return;
    measured = options.metrics->collect([this](MetricSink& sink) {
      for (const ResourceRef& resource : informers.resources()) {
        const ObjectCache* cache = informers.cache(resource);
        if (cache == nullptr) continue;
        const MetricLabels labels{{"resource", resource.text()}};
        sink.sample(MetricKind::gauge, "orchestra_informer_bytes",
                    "JSON of the objects that the controllers' informers hold.", labels,
                    static_cast<double>(cache->bytes()));
        sink.sample(MetricKind::gauge, "orchestra_informer_objects",
                    "Objects that the controllers' informers hold.", labels,
                    static_cast<double>(cache->size()));
      }
    });
  }

  bool is_own(const std::string& name) const {
    return std::any_of(own.begin(), own.end(), [&](const auto& r) { return r->name() == name; });
  }

  std::vector<std::shared_ptr<const Reconciler>> reconcilers() const {
    const controllers::BuiltinOptions builtin = builtin_options();
    std::vector<std::shared_ptr<const Reconciler>> list;
    for (const std::string& name : names()) {
      if (wanted(name) && !is_own(name)) list.push_back(controllers::make_reconciler(name, builtin));
    }
    for (const auto& reconciler : own) {
      if (wanted(reconciler->name())) list.push_back(reconciler);
    }
    return list;
  }

  std::unique_ptr<ControllerRunner> make_runner(const std::shared_ptr<const Reconciler>& reconciler) {
    RunnerOptions runner_options;
    runner_options.dry_run = options.dry_run;
    runner_options.fence = options.fence;
    runner_options.queue.metrics = options.metrics;
    runner_options.queue.name = reconciler->name();
    if (options.node_heard && reconciler->name() == "node-lifecycle") {
      runner_options.also_observed = [heard = options.node_heard](
                                         const ResourceRef& resource,
                                         const ObjectKey& key) -> std::optional<Observed> {
        if (resource.resource != "nodes") return std::nullopt;
        const std::optional<std::int64_t> at = heard(key.name);
        if (!at) return std::nullopt;
        return Observed{{0, *at}, true};
      };
    }
    auto runner =
        std::make_unique<ControllerRunner>(engine, client, informers, events, reconciler, runner_options);
    if (on_decision) runner->on_decision(on_decision);
    return runner;
  }

  // On an event thread.
  void definitions_changed() {
    {
      std::lock_guard lock(catalog_mutex);
      catalog_dirty = true;
      if (std::exchange(catalog_busy, true)) return;
    }
    const auto queued = engine.post_blocking([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->follow_catalog();
    });
    if (queued) return;
    std::lock_guard lock(catalog_mutex);
    catalog_busy = false;  // the next change tries again
  }

  void follow_catalog() {
    while (true) {
      {
        std::lock_guard lock(catalog_mutex);
        if (!std::exchange(catalog_dirty, false)) {
          catalog_busy = false;
          return;
        }
      }
      take_catalog(controllers::custom_catalog(definitions.cache().list()));
    }
  }

  void take_catalog(std::vector<controllers::KnownResource> now) {
    std::lock_guard lock(mutex);
    if (stopped || now == custom) return;
    const std::vector<controllers::KnownResource> before = std::exchange(custom, std::move(now));
    const controllers::BuiltinOptions builtin = builtin_options();
    for (auto& runner : runners) {
      const std::string name = runner->reconciler().name();
      if (is_own(name) ||
          std::find(std::begin(kByCatalog), std::end(kByCatalog), name) == std::end(kByCatalog))
        continue;
      runner->stop();  // what it does now ends first: never two of one controller
      runner = make_runner(controllers::make_reconciler(name, builtin));
      (void)runner->start();  // fails only without a client, which start() has checked
    }
    for (const controllers::KnownResource& one : before) {
      const bool stays =
          std::any_of(custom.begin(), custom.end(), [&](const auto& c) { return c.ref == one.ref; });
      if (!stays) informers.retire(one.ref);
    }
  }

  const ControllerRunner* runner(const std::string& name) const {
    for (const auto& runner : runners) {
      if (runner->reconciler().name() == name) return runner.get();
    }
    return nullptr;
  }
};

Controllers::Controllers(Engine& engine, Client client, ControllersOptions options)
    : impl_(std::make_shared<Impl>(engine, std::move(client), std::move(options))) {}
Controllers::~Controllers() { stop(); }

const std::vector<std::string>& Controllers::names() { return controllers::builtin_names(); }

void Controllers::on_decision(std::function<void(const ReconcileDecision&)> callback) {
  impl_->on_decision = std::move(callback);
}
void Controllers::add(std::shared_ptr<const Reconciler> reconciler) {
  impl_->own.push_back(std::move(reconciler));
}

Result<void> Controllers::start() {
  ORC_TRY(impl_->check_names());
  std::lock_guard lock(impl_->mutex);
  if (impl_->stopped)
    return Error(Error::cancelled, "controllers", "the controllers were stopped; make new ones");
  if (!impl_->runners.empty()) return {};
  bool by_catalog = false;
  for (const auto& reconciler : impl_->reconcilers()) {
    const std::string name = reconciler->name();
    by_catalog =
        by_catalog || (!impl_->is_own(name) &&
                       std::find(std::begin(kByCatalog), std::end(kByCatalog), name) != std::end(kByCatalog));
    auto runner = impl_->make_runner(reconciler);
    ORC_TRY(runner->start());
    impl_->runners.push_back(std::move(runner));
  }
  ORC_TRY(impl_->informers.start());
  impl_->measure();
  if (!by_catalog) return {};
  impl_->definitions.on_event(
      [impl = impl_.get()](const Object&, const Object&) { impl->definitions_changed(); });
  return impl_->definitions.start();
}

void Controllers::stop() {
  std::lock_guard lock(impl_->mutex);
  impl_->stopped = true;
  impl_->measured.reset();
  for (const auto& runner : impl_->runners) runner->stop();
  impl_->definitions.stop();
  impl_->informers.stop();
  impl_->events.stop();
}

std::string Controllers::explain(const std::string& controller, const std::string& key) const {
  std::lock_guard lock(impl_->mutex);
  const ControllerRunner* runner = impl_->runner(controller);
  return runner == nullptr ? "controller " + controller + " does not run" : runner->explain(key);
}

std::optional<ReconcileDecision> Controllers::decision(const std::string& controller,
                                                       const std::string& key) const {
  std::lock_guard lock(impl_->mutex);
  const ControllerRunner* runner = impl_->runner(controller);
  if (runner == nullptr) return std::nullopt;
  return runner->decision(key);
}

bool Controllers::idle() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->informers.synced() && std::all_of(impl_->runners.begin(), impl_->runners.end(),
                                                  [](const auto& runner) { return runner->idle(); });
}

RunnerStats Controllers::stats(const std::string& controller) const {
  std::lock_guard lock(impl_->mutex);
  const ControllerRunner* runner = impl_->runner(controller);
  return runner == nullptr ? RunnerStats() : runner->stats();
}

std::vector<std::string> Controllers::running() const {
  std::lock_guard lock(impl_->mutex);
  std::vector<std::string> names;
  for (const auto& runner : impl_->runners) names.push_back(runner->reconciler().name());
  return names;
}

InformerSet& Controllers::informers() { return impl_->informers; }

}  // namespace orchestra
