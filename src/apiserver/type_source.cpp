// See type_source.hpp.
#include "apiserver/type_source.hpp"

#include <algorithm>

#include "api/crd/definition.hpp"
#include "api/meta.hpp"
#include "api/object_tree.hpp"
#include "apiserver/client_in_process.hpp"
#include "apiserver/stored_object.hpp"
#include "apiserver/view.hpp"
#include "apiserver/webhook/conversion.hpp"
#include "base/engine_manual.hpp"

namespace orchestra::apiserver {
namespace {
constexpr Duration kStep = std::chrono::seconds(30);
constexpr Duration kCleanupPause = std::chrono::milliseconds(200);  // while objects of a removed type go

api::TypePtr type_that(const api::TypeRegistry& registry, bool api::TypeRecord::*flag) {
  for (const api::TypePtr& type : registry.records()) {
    if ((*type).*flag) return type;
  }
  return nullptr;
}

ApiRequest request_on(const api::TypeRecord& type, const char* verb, std::string name, json::value object) {
  ApiRequest request;
  request.verb = verb;
  request.api_version = type.gvk(type.versions.front().name).api_version();
  request.resource = type.plural;
  request.name = std::move(name);
  if (object.is_object()) request.object = object_from_tree(std::move(object));
  request.query["fieldManager"] = "orchestra";
  return request;
}
}  // namespace

TypeSource::TypeSource(std::shared_ptr<ApiCore> core)
    : core_(std::move(core)), client_(make_in_process_client(core_, Identity::server())) {
  const auto builtin = api::TypeRegistry::builtin();
  definitions_ = type_that(*builtin, &api::TypeRecord::defines_types);
  services_ = type_that(*builtin, &api::TypeRecord::lists_versions);
}

Result<void> TypeSource::start() {
  {
    std::lock_guard lock(mutex_);
    if (!stopped_) return {};
    stopped_ = false;
    running_ = true;  // what changes meanwhile waits for its turn
  }
  arm();
  sync();
  bool more = false;
  {
    std::lock_guard lock(mutex_);
    running_ = false;
    more = pending_;
  }
  if (more) changed();
  return {};
}

void TypeSource::stop() {
  std::shared_ptr<Watch> watch;
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
    watch = std::move(watch_);
    if (timer_ != 0) core_->engine().cancel_timer(timer_);
    timer_ = 0;
  }
  if (watch) watch->cancel();
}

/// A watch from now on; what was before it is read by the sync that follows.
void TypeSource::arm() {
  WatchOptions options;
  options.range = objects_range(place_of(*definitions_), "");
  options.want_previous = false;
  auto watch = core_->store().watch(std::move(options));
  if (!watch) return again(std::chrono::seconds(1));
  auto armed = std::make_shared<Watch>(std::move(*watch));
  {
    std::lock_guard lock(mutex_);
    if (stopped_) return;
    watch_ = armed;
  }
  listen(*armed);
}

/// Not under the lock: where something is there already, the call comes at once.
void TypeSource::listen(Watch& watch) {
  std::weak_ptr<TypeSource> weak = weak_from_this();
  watch.notify([weak] {
    if (auto self = weak.lock()) self->changed();
  });
}

void TypeSource::again(Duration after) {
  std::weak_ptr<TypeSource> weak = weak_from_this();
  std::lock_guard lock(mutex_);
  if (stopped_) return;
  if (timer_ != 0) core_->engine().cancel_timer(timer_);
  timer_ = core_->engine().after(after, [weak] {
    if (auto self = weak.lock()) self->changed();
  });
}

/// Something may differ: one sync at a time, and one more if it came while one ran.
void TypeSource::changed() {
  {
    std::lock_guard lock(mutex_);
    pending_ = true;
    if (stopped_ || running_) return;
    running_ = true;
  }
  auto queued = core_->engine().post_blocking([self = shared_from_this()] {
    for (;;) {
      std::shared_ptr<Watch> watch;
      {
        std::lock_guard lock(self->mutex_);
        if (self->stopped_ || !self->pending_) {
          self->running_ = false;
          return;
        }
        self->pending_ = false;
        watch = self->watch_;
      }
      while (watch && watch->poll()) {
      }
      const bool lost = !watch || watch->error().has_value();
      if (!lost) self->listen(*watch);
      if (lost) self->arm();
      self->sync();
    }
  });
  if (!queued) {
    {
      std::lock_guard lock(mutex_);
      running_ = false;
    }
    again(kCleanupPause);
  }
}

Result<std::vector<TypeSource::Definition>> TypeSource::read() const {
  ORC_ASSIGN(Snapshot snapshot, core_->store().snapshot(0, Consistency::serializable).wait(kStep));
  const View view(std::move(snapshot));
  ORC_ASSIGN(const std::vector<KeyValue> items, view.range(objects_range(place_of(*definitions_), "")));
  std::vector<Definition> out;
  for (const KeyValue& kv : items) {
    ORC_ASSIGN(const StoredView stored, decode_stored_frame(kv.value.bytes()));
    ORC_ASSIGN(json::value tree, parse_json(json_with_revision(stored, kv.mod_revision)));
    std::string name(api::meta_string(tree, "name"));
    out.push_back({std::move(tree), std::move(name)});
  }
  // The older definition keeps a name that two want.
  std::stable_sort(out.begin(), out.end(), [](const Definition& a, const Definition& b) {
    return api::meta_string(a.object, "creationTimestamp") < api::meta_string(b.object, "creationTimestamp");
  });
  return out;
}

void TypeSource::sync() {
  auto definitions = read();
  if (!definitions) {
    core_->engine().log(LogLevel::warning, "apiserver",
                        "the definitions of custom types cannot be read: " + definitions.error().to_string());
    return again(std::chrono::seconds(1));
  }
  const Now now = core_->engine().clock().now();
  std::shared_ptr<const api::TypeRegistry> registry = api::TypeRegistry::builtin();
  std::vector<api::DefinitionDecision> decisions;
  std::vector<std::pair<const json::value*, api::TypePtr>> removing;
  for (const Definition& definition : *definitions) {
    api::DefinitionDecision decision = api::judge_definition(definition.object, *registry, now);
    if (decision.served) {
      auto record = api::record_of_definition(definition.object, converter_of(core_, definition.object));
      if (record) {
        registry = registry->with(*record);
        if (decision.removing) removing.emplace_back(&definition.object, *record);
      } else {
        core_->engine().log(LogLevel::warning, "apiserver",
                            definition.name + " defines no type: " + record.error().to_string());
      }
    } else if (decision.removing) {
      removing.emplace_back(&definition.object, nullptr);
    }
    decisions.push_back(std::move(decision));
  }
  // First the type is there, then its status says so.
  if (definitions->empty()) registry = api::TypeRegistry::builtin();
  core_->set_registry(registry);
  publish_versions(registry);
  for (const api::DefinitionDecision& decision : decisions) {
    if (decision.object.is_object() && !decision.removing) write_status(decision.object);
  }
  bool waiting = false;
  for (const auto& [object, type] : removing) waiting = !remove_objects(*object, type) || waiting;
  if (waiting) again(kCleanupPause);
}

void TypeSource::write_status(const json::value& object) {
  ApiRequest request =
      request_on(*definitions_, "update", std::string(api::meta_string(object, "name")), object);
  request.subresource = "status";
  auto written = wait_on(core_->engine(), client_.request(std::move(request)), kStep);
  // A lost race is a change, and so another sync.
  if (!written && !written.error().is(Error::conflict) && !written.error().is(Error::not_found)) {
    core_->engine().log(LogLevel::warning, "apiserver",
                        "status of a definition: " + written.error().to_string());
  }
}

/// True once no object of the type is left; then the definition's finalizer goes.
bool TypeSource::remove_objects(const json::value& definition, const api::TypePtr& type) {
  if (type != nullptr) {
    const std::string version = type->gvk(type->versions.front().name).api_version();
    auto left = wait_on(core_->engine(), client_.list(version, type->plural), kStep);
    if (!left) return false;
    std::vector<ApiRequest> removals;
    for (const Object& object : left->items) {
      if (!object.get("/metadata/deletionTimestamp").has_value()) {
        ApiRequest request = request_on(*type, "delete", object.name(), nullptr);
        request.ns = object.ns();
        removals.push_back(std::move(request));
      }
    }
    if (!removals.empty()) (void)wait_on(core_->engine(), client_.batch(std::move(removals)), kStep);
    if (!left->items.empty()) return false;
  }
  json::value next = definition;
  json::array kept;
  if (const json::array* finalizers = array_at(definition, "/metadata/finalizers")) {
    for (const json::value& each : *finalizers) {
      if (each != api::kDefinitionFinalizer) kept.push_back(each);
    }
    if (kept.size() == finalizers->size()) return true;
  }
  api::metadata(next)["finalizers"] = std::move(kept);
  ApiRequest request = request_on(*definitions_, "update", std::string(api::meta_string(next, "name")), next);
  auto written = wait_on(core_->engine(), client_.request(std::move(request)), kStep);
  return written.has_value() || written.error().is(Error::not_found);
}

/// An object for each served group version, as upstream's aggregator keeps them.
void TypeSource::publish_versions(const std::shared_ptr<const api::TypeRegistry>& registry) {
  if (services_ == nullptr) return;
  const std::string version = services_->gvk(services_->versions.front().name).api_version();
  auto existing = wait_on(core_->engine(), client_.list(version, services_->plural), kStep);
  if (!existing) return;
  const Now now = core_->engine().clock().now();
  std::vector<std::string> wanted;
  std::vector<json::value> missing;
  std::vector<ApiRequest> creates, statuses, removals;
  for (const auto& each : registry->group_versions()) {
    json::value object = api::api_service_of(*registry, each.group, each.version, now);
    const std::string name(api::meta_string(object, "name"));
    wanted.push_back(name);
    const bool there = std::any_of(existing->items.begin(), existing->items.end(),
                                   [&](const Object& one) { return one.name() == name; });
    if (there) continue;
    creates.push_back(request_on(*services_, "create", "", object));
    missing.push_back(std::move(object));
  }
  for (const Object& object : existing->items) {
    const bool kept = std::find(wanted.begin(), wanted.end(), object.name()) != wanted.end();
    if (!kept && object.labels().count("kube-aggregator.kubernetes.io/automanaged") > 0)
      removals.push_back(request_on(*services_, "delete", object.name(), nullptr));
  }
  if (creates.empty() && removals.empty()) return;
  const auto made = wait_on(core_->engine(), client_.batch(std::move(creates)), kStep);
  for (std::size_t i = 0; made && i < missing.size(); ++i) {
    if (!(*made)[i]) continue;
    set_at(missing[i], "/metadata/resourceVersion", json::value((*made)[i]->resource_version()));
    const std::string name(api::meta_string(missing[i], "name"));
    statuses.push_back(request_on(*services_, "update", name, std::move(missing[i])));
    statuses.back().subresource = "status";
  }
  if (!statuses.empty()) (void)wait_on(core_->engine(), client_.batch(std::move(statuses)), kStep);
  if (!removals.empty()) (void)wait_on(core_->engine(), client_.batch(std::move(removals)), kStep);
}

}  // namespace orchestra::apiserver
