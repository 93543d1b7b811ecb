// Protection of claims and volumes in use (kubernetes/pkg/controller/volume/{pvcprotection,pvprotection}),
// and the claims of generic ephemeral volumes (volume/ephemeral).
//
// A finalizer keeps a claim while a pod that was placed and has not ended names it, and a volume while it is
// bound. Before a claim is let go the API itself is asked: a pod that the cache does not know yet would lose
// its data.
#include <algorithm>

#include "controllers/common/pods.hpp"
#include "controllers/volumes/decide.hpp"

namespace orchestra::controllers {

namespace {

constexpr const char* kClaimProtection = "kubernetes.io/pvc-protection";
constexpr const char* kVolumeProtection = "kubernetes.io/pv-protection";

bool has_finalizer(const Object& object, const char* name) {
  return std::find(object.finalizers().begin(), object.finalizers().end(), name) != object.finalizers().end();
}

Object with_finalizer(const Object& object, const char* name, bool present) {
  json::value copy = tree(object);
  json::array& list = array_in(copy, "/metadata/finalizers");
  if (present) {
    list.push_back(json::value(name));
  } else {
    for (auto it = list.begin(); it != list.end();)
      it = it->is_string() && it->get_string() == name ? list.erase(it) : it + 1;
    if (list.empty()) object_in(copy, "/metadata").erase("finalizers");
  }
  return object_from_tree(std::move(copy));
}

std::vector<std::string> claims_of_pod(const Object& pod) {
  std::vector<std::string> names;
  const json::array* volumes = array_at(tree(pod), "/spec/volumes");
  if (volumes == nullptr) return names;
  for (const json::value& volume : *volumes) {
    std::string name = string_at(volume, "/persistentVolumeClaim/claimName");
    if (name.empty() && object_at(volume, "/ephemeral") != nullptr)
      name = pod.name() + "-" + string_at(volume, "/name");
    if (!name.empty()) names.push_back(std::move(name));
  }
  return names;
}

class ClaimProtection final : public Reconciler {
 public:
  std::string name() const override { return "persistentvolumeclaim-protection"; }
  std::vector<Source> sources() const override {
    return {watch_self(persistent_volume_claims()),
            {pods(), false, [](const View&, const Object& old, const Object& now, const KeySink& wake) {
               if (now && !pod_terminal(now)) return;  // only an end may let a claim go
               for (const std::string& claim : claims_of_pod(now ? now : old))
                 wake(ObjectKey{(now ? now : old).ns(), claim}.text());
             }}};
  }
  Actions decide(const std::string& key, const View& view, Now) const override {
    Actions actions;
    const ObjectKey id = ObjectKey::from_text(key);
    const Object claim = view.get(persistent_volume_claims(), id.ns, id.name);
    if (!claim) return actions;
    if (!claim.deleting()) {
      if (!has_finalizer(claim, kClaimProtection))
        actions.update(persistent_volume_claims(), with_finalizer(claim, kClaimProtection, true),
                       "it may be in use");
      return actions;
    }
    if (!has_finalizer(claim, kClaimProtection)) return actions;
    for (const Object& pod : view.list(pods(), id.ns)) {
      if (pod_terminal(pod) || string_at(tree(pod), "/spec/nodeName").empty()) continue;
      const auto names = claims_of_pod(pod);
      if (std::find(names.begin(), names.end(), id.name) == names.end()) continue;
      actions.reason = "pod " + pod.name() + " uses it";
      return actions;
    }
    actions.update(persistent_volume_claims(), with_finalizer(claim, kClaimProtection, false),
                   "no pod uses it");
    return actions;
  }
};

class VolumeProtection final : public Reconciler {
 public:
  std::string name() const override { return "persistentvolume-protection"; }
  std::vector<Source> sources() const override { return {watch_self(persistent_volumes())}; }
  Actions decide(const std::string& key, const View& view, Now) const override {
    Actions actions;
    const Object volume = view.get(persistent_volumes(), {}, key);
    if (!volume) return actions;
    const bool present = has_finalizer(volume, kVolumeProtection);
    if (!volume.deleting()) {
      if (!present)
        actions.update(persistent_volumes(), with_finalizer(volume, kVolumeProtection, true),
                       "it may be in use");
    } else if (present && string_at(tree(volume), "/status/phase") != "Bound") {
      actions.update(persistent_volumes(), with_finalizer(volume, kVolumeProtection, false),
                     "no claim has it");
    }
    return actions;
  }
};

class EphemeralClaims final : public Reconciler {
 public:
  std::string name() const override { return "ephemeral-volume"; }
  std::vector<Source> sources() const override {
    return {{pods(), false,
             [](const View&, const Object&, const Object& now, const KeySink& wake) {
               if (!now || now.deleting()) return;
               const json::array* volumes = array_at(tree(now), "/spec/volumes");
               if (volumes == nullptr) return;
               if (std::any_of(volumes->begin(), volumes->end(), [](const json::value& volume) {
                     return object_at(volume, "/ephemeral") != nullptr;
                   }))
                 wake(ObjectKey::of(now).text());
             }},
            {persistent_volume_claims()}};
  }
  Actions decide(const std::string& key, const View& view, Now) const override {
    Actions actions;
    const ObjectKey id = ObjectKey::from_text(key);
    const Object pod = view.get(pods(), id.ns, id.name);
    if (!pod || pod.deleting() || pod_terminal(pod)) return actions;
    const json::array* volumes = array_at(tree(pod), "/spec/volumes");
    if (volumes == nullptr) return actions;
    for (const json::value& volume : *volumes) {
      const json::value* claim_template = find(volume, "/ephemeral/volumeClaimTemplate");
      if (claim_template == nullptr) continue;
      const std::string name = pod.name() + "-" + string_at(volume, "/name");
      const Object there = view.get(persistent_volume_claims(), id.ns, name);
      if (there) {
        const OwnerReference* owner = there.controller();
        if (owner == nullptr || owner->uid != pod.uid())
          actions.event(pod, "Warning", "ClaimConflict",
                        "PVC " + id.ns + "/" + name + " was not created for pod " + pod.name());
        continue;
      }
      json::value claim = json::object{{"apiVersion", "v1"}, {"kind", "PersistentVolumeClaim"}};
      if (const json::value* metadata = find(*claim_template, "/metadata"))
        set_at(claim, "/metadata", *metadata);
      json::object& metadata = object_in(claim, "/metadata");
      metadata["name"] = name;
      metadata["namespace"] = id.ns;
      array_in(claim, "/metadata/ownerReferences").push_back(controller_reference(pod));
      if (const json::value* spec = find(*claim_template, "/spec")) set_at(claim, "/spec", *spec);
      actions.create(persistent_volume_claims(), object_from_tree(std::move(claim)),
                     "volume " + string_at(volume, "/name") + " of the pod");
    }
    return actions;
  }
};

}  // namespace

std::shared_ptr<const Reconciler> make_claim_protection() { return std::make_shared<ClaimProtection>(); }
std::shared_ptr<const Reconciler> make_volume_protection() { return std::make_shared<VolumeProtection>(); }
std::shared_ptr<const Reconciler> make_ephemeral_claims() { return std::make_shared<EphemeralClaims>(); }

}  // namespace orchestra::controllers
