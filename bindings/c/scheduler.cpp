// orc_snapshot_*, orc_scheduler_*: decisions on the caller's data, and a scheduler with the caller's rules.
#include "orchestra/scheduler.hpp"
#include "bindings/c/handles.hpp"

using namespace orchestra;
using namespace orchestra::c;

struct orc_snapshot {
  SchedulingSnapshot snapshot;
};
struct orc_scheduler {
  std::unique_ptr<Scheduler> scheduler;
};

namespace {

constexpr std::size_t kReasonBytes = 512;

json::object amounts_json(const Amounts& amounts) {
  json::object out;
  for (const auto& [name, amount] : amounts) out[name] = amount;
  return out;
}

// A plugin whose callbacks are C functions. What they say in error is an exception here: the scheduler knows
// what to do with those.
class CallbackPlugin final : public SchedulerPlugin {
 public:
  explicit CallbackPlugin(const orc_scheduler_plugin& plugin) : plugin_(plugin), name_(plugin.name) {}
  std::string name() const override { return name_; }
  std::int64_t weight() const override { return plugin_.weight > 0 ? plugin_.weight : 1; }
  bool filters() const override { return plugin_.filter != nullptr; }
  bool scores() const override { return plugin_.score != nullptr; }
  std::optional<std::string> filter(const PodShape& pod, const NodeView& node) override {
    char reason[kReasonBytes] = "";
    const std::string pod_text = text(pod);
    const std::string node_text = text(node);
    const int answer =
        plugin_.filter(plugin_.context, pod_text.c_str(), node_text.c_str(), reason, sizeof reason);
    if (answer == 0) return std::nullopt;
    if (answer != 1) throw std::runtime_error("the callback answered " + std::to_string(answer));
    reason[sizeof reason - 1] = 0;
    return std::string(reason);
  }
  std::int64_t score(const PodShape& pod, const NodeView& node) override {
    const std::string pod_text = text(pod);
    const std::string node_text = text(node);
    return plugin_.score(plugin_.context, pod_text.c_str(), node_text.c_str());
  }

 private:
  static std::string text(const PodShape& pod) {
    json::object labels;
    for (const auto& [key, value] : pod.labels) labels[key] = value;
    return to_json(json::object{{"namespace", pod.ns},
                                {"name", pod.name},
                                {"labels", labels},
                                {"priority", pod.priority},
                                {"requests", amounts_json(pod.requests)}});
  }
  static std::string text(const NodeView& node) {
    json::object labels;
    for (const auto& [key, value] : node.shape.labels) labels[key] = value;
    return to_json(json::object{{"name", node.shape.name},
                                {"labels", labels},
                                {"allocatable", amounts_json(node.shape.allocatable)},
                                {"used", amounts_json(node.used)}});
  }
  const orc_scheduler_plugin plugin_;
  const std::string name_;
};

Result<std::vector<std::shared_ptr<SchedulerPlugin>>> plugins_of(const orc_scheduler_plugin* plugins,
                                                                 std::size_t count) {
  std::vector<std::shared_ptr<SchedulerPlugin>> all;
  for (std::size_t i = 0; plugins != nullptr && i < count; ++i) {
    if (plugins[i].size != sizeof(orc_scheduler_plugin) || plugins[i].name == nullptr ||
        *plugins[i].name == 0)
      return Error(Error::invalid, "c", "plugin " + std::to_string(i) + " needs its size and a name");
    all.push_back(std::make_shared<CallbackPlugin>(plugins[i]));
  }
  return all;
}

Result<Object> object_of(const char* text, std::size_t size, const char* kind) {
  ORC_ASSIGN(Object object, Object::from_json({text, size}));
  if (kind != nullptr && object.kind() != kind)
    return Error(Error::invalid, "c", "a " + std::string(kind) + " is wanted, not a " + object.kind());
  return object;
}

Result<void> set(SchedulingSnapshot& snapshot, const Object& object) {
  const std::string& kind = object.kind();
  if (kind == "Node") {
    snapshot.set_node(NodeShape::from_object(object));
  } else if (kind == "Pod") {
    const PodShape pod = PodShape::from_object(object);
    if (pod.node_name.empty() || pod.uid.empty())
      return Error(Error::invalid, "c", "a placed pod has spec.nodeName and metadata.uid");
    snapshot.set_pod(pod, pod.node_name);
  } else if (kind == "Namespace") {
    snapshot.set_namespace(object.name(), object.labels());
  } else if (kind == "PersistentVolume") {
    snapshot.set_volume(VolumeShape::from_object(object));
  } else if (kind == "PersistentVolumeClaim") {
    snapshot.set_claim(ClaimShape::from_object(object));
  } else if (kind == "StorageClass") {
    snapshot.set_storage_class(StorageClassShape::from_object(object));
  } else if (kind == "CSINode") {
    snapshot.set_volume_limits(object.name(), csi_limits_of(object));
  } else if (kind == "CSIStorageCapacity") {
    snapshot.set_capacity(CapacityShape::from_object(object));
  } else if (kind == "CSIDriver") {
    snapshot.set_driver(object.name(), object.get_bool("/spec/storageCapacity").value_or(false));
  } else {
    return Error(Error::invalid, "c", "the scheduler does not look at a " + kind);
  }
  return {};
}

json::object answer_of(const Decision& decision) {
  json::object answer;
  if (const Placement* at = decision.placement()) {
    answer["node"] = at->node;
    answer["score"] = at->score;
    answer["feasible"] = at->feasible;
  } else if (const Unschedulable* why = decision.unschedulable()) {
    answer["unschedulable"] = why->message();
    json::object counts;
    for (const auto& [reason, count] : why->counts) counts[reason] = count;
    answer["counts"] = counts;
  }
  return answer;
}

}  // namespace

orc_code orc_snapshot_new(orc_snapshot** out, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (out == nullptr) return bad("out must not be NULL", error);
    *out = new orc_snapshot();
    return ORC_OK;
  });
}

void orc_snapshot_free(orc_snapshot* snapshot) { delete snapshot; }

orc_code orc_snapshot_set(orc_snapshot* snapshot, const char* object_json, size_t size, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (snapshot == nullptr || object_json == nullptr) return bad("snapshot and object must be given", error);
    const auto object = object_of(object_json, size, nullptr);
    if (!object) return fail(object.error(), error);
    const auto done = set(snapshot->snapshot, *object);
    return done ? ORC_OK : fail(done.error(), error);
  });
}

orc_code orc_snapshot_remove_node(orc_snapshot* snapshot, const char* name, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (snapshot == nullptr || name == nullptr) return bad("snapshot and name must be given", error);
    if (!snapshot->snapshot.remove_node(name))
      return fail(Error(Error::not_found, "c", std::string("there is no node ") + name), error);
    return ORC_OK;
  });
}

orc_code orc_snapshot_remove_pod(orc_snapshot* snapshot, const char* uid, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (snapshot == nullptr || uid == nullptr) return bad("snapshot and uid must be given", error);
    if (snapshot->snapshot.remove_pod(uid).empty())
      return fail(Error(Error::not_found, "c", std::string("there is no pod with the UID ") + uid), error);
    return ORC_OK;
  });
}

orc_code orc_snapshot_place(orc_snapshot* snapshot, const char* pod_json, size_t size,
                            const orc_scheduler_plugin* plugins, size_t plugin_count, int assume,
                            orc_bytes* answer, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (snapshot == nullptr || pod_json == nullptr || answer == nullptr)
      return bad("snapshot, pod and answer must be given", error);
    const auto object = object_of(pod_json, size, "Pod");
    if (!object) return fail(object.error(), error);
    const auto own = plugins_of(plugins, plugin_count);
    if (!own) return fail(own.error(), error);
    const PodShape pod = PodShape::from_object(*object);
    if (assume != 0 && pod.uid.empty()) return bad("a pod to be assumed needs a metadata.uid", error);
    PlaceOptions options;
    for (const auto& plugin : *own) options.plugins.push_back(plugin.get());
    const Decision decision = place(snapshot->snapshot, pod, options);
    if (const PlacementFailed* failed = decision.failed()) {
      return fail(Error(Error::internal, "scheduler", "plugin " + failed->plugin + ": " + failed->message),
                  error);
    }
    if (const Placement* at = decision.placement(); at != nullptr && assume != 0)
      snapshot->snapshot.assume(pod, at->node);
    give(answer, to_json(answer_of(decision)));
    return ORC_OK;
  });
}

orc_code orc_snapshot_explain(orc_snapshot* snapshot, const char* pod_json, size_t size, orc_bytes* answer,
                              orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (snapshot == nullptr || pod_json == nullptr || answer == nullptr)
      return bad("snapshot, pod and answer must be given", error);
    const auto object = object_of(pod_json, size, "Pod");
    if (!object) return fail(object.error(), error);
    json::array rows;
    for (const NodeVerdict& verdict : explain(snapshot->snapshot, PodShape::from_object(*object))) {
      json::object row{{"node", verdict.node}};
      if (!verdict.reasons.empty()) {
        json::array reasons;
        for (const std::string& reason : verdict.reasons) reasons.emplace_back(reason);
        row["reasons"] = reasons;
      } else {
        json::array scores;
        for (const PluginScore& each : verdict.scores) {
          scores.push_back(json::object{{"plugin", each.plugin.c_str()},
                                        {"raw", each.raw},
                                        {"normalised", each.normalised},
                                        {"weight", each.weight}});
        }
        row["total"] = verdict.total;
        row["scores"] = scores;
      }
      rows.push_back(row);
    }
    give(answer, to_json(rows));
    return ORC_OK;
  });
}

orc_code orc_scheduler_new(orc_engine* engine, orc_client* client, const char* configuration,
                           const orc_scheduler_plugin* plugins, size_t plugin_count, orc_scheduler** out,
                           orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (engine == nullptr || client == nullptr || out == nullptr)
      return bad("engine, client and out must be given", error);
    SchedulerOptions options;
    options.config_yaml = text_of(configuration);
    auto own = plugins_of(plugins, plugin_count);
    if (!own) return fail(own.error(), error);
    options.plugins = std::move(*own);
    *out =
        new orc_scheduler{std::make_unique<Scheduler>(*engine->engine, client->client, std::move(options))};
    return ORC_OK;
  });
}

orc_code orc_scheduler_start(orc_scheduler* scheduler, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (scheduler == nullptr) return bad("scheduler must not be NULL", error);
    const auto started = scheduler->scheduler->start();
    return started ? ORC_OK : fail(started.error(), error);
  });
}

void orc_scheduler_stop(orc_scheduler* scheduler) {
  if (scheduler != nullptr) scheduler->scheduler->stop();
}

void orc_scheduler_free(orc_scheduler* scheduler) { delete scheduler; }
