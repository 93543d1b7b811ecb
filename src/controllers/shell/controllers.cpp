// Controllers: makes the chosen reconcilers and a runner for each, over one set of informers.
#include "orchestra/controllers.hpp"

#include <algorithm>
#include <mutex>

#include "controllers/builtin.hpp"

namespace orchestra {

struct Controllers::Impl {
  Engine& engine;
  const Client client;
  const ControllersOptions options;
  InformerSet informers;
  EventRecorder events;
  std::vector<std::shared_ptr<const Reconciler>> own;
  std::function<void(const ReconcileDecision&)> on_decision;
  mutable std::mutex mutex;
  std::vector<std::unique_ptr<ControllerRunner>> runners;  // after what they use: they end first
  bool stopped = false;

  Impl(Engine& engine, Client client, ControllersOptions options)
      : engine(engine),
        client(client),
        options(std::move(options)),
        informers(engine, client),
        events(engine, client) {}

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

  std::vector<std::shared_ptr<const Reconciler>> reconcilers() const {
    controllers::BuiltinOptions builtin;
    builtin.root_ca_pem = options.root_ca_pem;
    builtin.sign_certificate = options.sign_certificate;
    builtin.volumes.local_root = options.local_volume_root;
    builtin.catalog = controllers::builtin_catalog();
    builtin.node_lifecycle.grace = options.node_grace;
    builtin.node_lifecycle.listening_since_wall_ns = engine.clock().now().wall_ns;
    builtin.node_lifecycle.eviction_interval = options.node_eviction_interval;
    std::vector<std::shared_ptr<const Reconciler>> list;
    for (const std::string& name : names()) {
      const bool replaced =
          std::any_of(own.begin(), own.end(), [&](const auto& r) { return r->name() == name; });
      if (wanted(name) && !replaced) list.push_back(controllers::make_reconciler(name, builtin));
    }
    for (const auto& reconciler : own) {
      if (wanted(reconciler->name())) list.push_back(reconciler);
    }
    return list;
  }

  const ControllerRunner* runner(const std::string& name) const {
    for (const auto& runner : runners) {
      if (runner->reconciler().name() == name) return runner.get();
    }
    return nullptr;
  }
};

Controllers::Controllers(Engine& engine, Client client, ControllersOptions options)
    : impl_(std::make_unique<Impl>(engine, std::move(client), std::move(options))) {}
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
  RunnerOptions options;
  options.dry_run = impl_->options.dry_run;
  options.fence = impl_->options.fence;
  for (const auto& reconciler : impl_->reconcilers()) {
    auto runner = std::make_unique<ControllerRunner>(impl_->engine, impl_->client, impl_->informers,
                                                     impl_->events, reconciler, options);
    if (impl_->on_decision) runner->on_decision(impl_->on_decision);
    ORC_TRY(runner->start());
    impl_->runners.push_back(std::move(runner));
  }
  return impl_->informers.start();
}

void Controllers::stop() {
  std::lock_guard lock(impl_->mutex);
  impl_->stopped = true;
  for (const auto& runner : impl_->runners) runner->stop();
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
