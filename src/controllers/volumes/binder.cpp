// Volume binder (kubernetes/pkg/controller/volume/persistentvolume/pv_controller.go).
//
// Keys are claims ("ns/name") and volumes ("name"). A claim is bound in two writes, the volume's claimRef
// first: whoever stops in between finds the half-made pair by the claimRef and goes on. A claim whose class
// waits for its first consumer gets the node of a pod that uses it (annotation selected-node, or where such a
// pod was placed). The provisioner of the class orchestra.dev/local-path makes a volume that is a folder on
// that node; the node's agent makes the folder, and removes it when the volume was released with the policy
// Delete.
#include <algorithm>

#include "controllers/common/pods.hpp"
#include "controllers/volumes/decide.hpp"
#include "controllers/volumes/match.hpp"

namespace orchestra::controllers {

namespace {

constexpr Duration kNodeLook = std::chrono::seconds(2);    // claims whose node is not known yet are few
constexpr Duration kReadyLook = std::chrono::seconds(15);  // upstream's period of looking at all claims

bool uses_claim(const Object& pod, const std::string& claim) {
  const json::array* volumes = array_at(tree(pod), "/spec/volumes");
  if (volumes == nullptr) return false;
  return std::any_of(volumes->begin(), volumes->end(), [&](const json::value& volume) {
    if (string_at(volume, "/persistentVolumeClaim/claimName") == claim) return true;
    return object_at(volume, "/ephemeral") != nullptr &&
           pod.name() + "-" + string_at(volume, "/name") == claim;
  });
}

class VolumeBinder final : public Reconciler {
 public:
  explicit VolumeBinder(VolumeOptions options) : options_(std::move(options)) {}
  std::string name() const override { return "persistentvolume-binder"; }

  std::vector<Source> sources() const override {
    Source of_volumes{persistent_volumes(), false,
                      [](const View& view, const Object& old, const Object& now, const KeySink& wake) {
                        const Object& volume = now ? now : old;
                        wake(volume.name());
                        const std::string claim = string_at(tree(volume), "/spec/claimRef/name");
                        const std::string ns = string_at(tree(volume), "/spec/claimRef/namespace");
                        if (!claim.empty()) wake(ObjectKey{ns, claim}.text());
                        if (!claim.empty() || !now) return;
                        for (const Object& waiting : view.list(persistent_volume_claims())) {
                          if (string_at(tree(waiting), "/spec/volumeName").empty())
                            wake(ObjectKey::of(waiting).text());
                        }
                      }};
    Source of_claims{persistent_volume_claims(), false,
                     [](const View&, const Object& old, const Object& now, const KeySink& wake) {
                       const Object& claim = now ? now : old;
                       wake(ObjectKey::of(claim).text());
                       const std::string volume = string_at(tree(claim), "/spec/volumeName");
                       if (!volume.empty()) wake(volume);
                     }};
    Source of_pods{pods(), false,
                   [](const View& view, const Object& old, const Object& now, const KeySink& wake) {
                     if (!now || string_at(tree(now), "/spec/nodeName").empty()) return;
                     if (old && !string_at(tree(old), "/spec/nodeName").empty()) return;
                     for (const Object& claim : view.list(persistent_volume_claims(), now.ns())) {
                       if (uses_claim(now, claim.name())) wake(ObjectKey::of(claim).text());
                     }
                   }};
    Source of_classes{storage_classes(), false,
                      [](const View& view, const Object&, const Object& now, const KeySink& wake) {
                        if (!now) return;
                        for (const Object& claim : view.list(persistent_volume_claims())) {
                          if (string_at(tree(claim), "/status/phase") != "Bound")
                            wake(ObjectKey::of(claim).text());
                        }
                      }};
    return {
        std::move(of_claims), std::move(of_volumes), std::move(of_pods), std::move(of_classes), {nodes()}};
  }

  Actions decide(const std::string& key, const View& view, Now now) const override {
    Actions actions;
    const ObjectKey id = ObjectKey::from_text(key);
    if (id.ns.empty()) {
      const Object volume = view.get(persistent_volumes(), {}, id.name);
      if (volume) sync_volume(volume, view, actions);
    } else {
      const Object claim = view.get(persistent_volume_claims(), id.ns, id.name);
      if (claim) sync_claim(claim, view, now, actions);
    }
    return actions;
  }

 private:
  // ---- claims

  void sync_claim(const Object& claim, const View& view, Now now, Actions& actions) const {
    const json::value& root = tree(claim);
    const std::string volume_name = string_at(root, "/spec/volumeName");
    if (!volume_name.empty())
      return sync_named(claim, view.get(persistent_volumes(), {}, volume_name), actions);
    if (claim.deleting()) return;
    if (assign_class(claim, view, actions)) return;
    const Object storage_class = view.get(storage_classes(), {}, string_at(root, "/spec/storageClassName"));
    const bool waits =
        storage_class && string_at(tree(storage_class), "/volumeBindingMode") == "WaitForFirstConsumer";
    Object node;
    if (waits) {
      const std::string chosen = chosen_node(claim, view);
      if (!chosen.empty()) node = view.get(nodes(), {}, chosen);
      // A volume that names this claim needs no consumer.
      const Object prebound = best_volume(claim, named_for(claim, view), {});
      if (!node && !prebound) {
        pending(claim, actions);
        if (!chosen.empty()) {  // whoever chose it heard of it before us
          actions.reason = "waits for node " + chosen + ", which is not known here";
          return actions.requeue(kNodeLook);
        }
        actions.event(claim, "Normal", "WaitForFirstConsumer",
                      "waiting for first consumer to be created before binding");
        actions.reason = "waits for its first consumer";
        return;
      }
    }
    const Object volume = best_volume(claim, view.list(persistent_volumes()), node);
    if (volume) {
      bind(claim, volume, actions);
      return;
    }
    provision(claim, storage_class, node, now, view, actions);
  }

  static std::vector<Object> named_for(const Object& claim, const View& view) {
    std::vector<Object> volumes = view.list(persistent_volumes());
    std::erase_if(volumes, [&](const Object& volume) {
      return object_at(tree(volume), "/spec/claimRef") == nullptr || !claimed_by(tree(volume), claim);
    });
    return volumes;
  }

  // A claim that says nothing about its class gets the default one, also late.
  static bool assign_class(const Object& claim, const View& view, Actions& actions) {
    const json::value* given = find(tree(claim), "/spec/storageClassName");
    if (given != nullptr && !given->is_null()) return false;
    Object newest;
    for (const Object& each : view.list(storage_classes())) {
      if (annotation(each, kDefaultClass) != "true") continue;
      const auto when = [](const Object& object) {
        return time_at(tree(object), "/metadata/creationTimestamp").value_or(0);
      };
      if (!newest || when(each) > when(newest)) newest = each;
    }
    if (!newest) return false;
    json::value copy = tree(claim);
    set_at(copy, "/spec/storageClassName", json::value(newest.name()));
    actions.update(persistent_volume_claims(), object_from_tree(std::move(copy)), "the default class");
    return true;
  }

  static std::string chosen_node(const Object& claim, const View& view) {
    if (const auto selected = annotation(claim, kSelectedNode)) return *selected;
    for (const Object& pod : view.list(pods(), claim.ns())) {
      const std::string node = string_at(tree(pod), "/spec/nodeName");
      if (!node.empty() && !pod_terminal(pod) && uses_claim(pod, claim.name())) return node;
    }
    return {};
  }

  static void write_claim_status(const Object& claim, const json::value& status, std::string why,
                                 Actions& actions) {
    if (same_meaning(find(tree(claim), "/status"), &status)) return;
    json::value copy = tree(claim);
    set_at(copy, "/status", status);
    actions.update_status(persistent_volume_claims(), object_from_tree(std::move(copy)), std::move(why));
  }

  static json::value status_of(const Object& object) {
    const json::value* status = find(tree(object), "/status");
    return status != nullptr && status->is_object() ? *status : json::value(json::object());
  }

  static void pending(const Object& claim, Actions& actions) {
    json::value status = status_of(claim);
    if (!string_at(status, "/phase").empty()) return;
    status.get_object()["phase"] = "Pending";
    write_claim_status(claim, status, "it has no volume yet", actions);
  }

  static void bind(const Object& claim, const Object& volume, Actions& actions) {
    if (string_at(tree(volume), "/spec/claimRef/uid") != claim.uid()) {
      json::value copy = tree(volume);
      json::object& reference = object_in(copy, "/spec/claimRef");
      if (reference.empty()) object_in(copy, "/metadata/annotations")[kBoundByController] = "yes";
      reference = reference_to(claim);
      actions.update(persistent_volumes(), object_from_tree(std::move(copy)),
                     "claim " + claim.ns() + "/" + claim.name() + " gets it");
    }
    json::value copy = tree(claim);
    set_at(copy, "/spec/volumeName", json::value(volume.name()));
    json::object& notes = object_in(copy, "/metadata/annotations");
    notes[kBindCompleted] = "yes";
    notes[kBoundByController] = "yes";
    actions.update(persistent_volume_claims(), object_from_tree(std::move(copy)),
                   "volume " + volume.name() + " fits");
    actions.reason = "bound to " + volume.name();
  }

  static json::object reference_to(const Object& claim) {
    return {{"kind", "PersistentVolumeClaim"},
            {"namespace", claim.ns()},
            {"name", claim.name()},
            {"uid", claim.uid()},
            {"apiVersion", "v1"},
            {"resourceVersion", claim.resource_version()}};
  }

  // A claim that names its volume: bound, lost, or prebound by the user.
  void sync_named(const Object& claim, const Object& volume, Actions& actions) const {
    json::value status = status_of(claim);
    const bool completed = annotation(claim, kBindCompleted).has_value();
    if (!volume || (completed && !owns(volume, claim))) {
      if (!completed) return pending(claim, actions);
      if (string_at(status, "/phase") == "Lost") return;
      status.get_object()["phase"] = "Lost";
      write_claim_status(claim, status, "its volume is gone", actions);
      actions.event(claim, "Warning", "ClaimLost",
                    "Bound claim has lost its PersistentVolume. Data on the volume is lost!");
      return;
    }
    if (!completed) {
      const bool taken = object_at(tree(volume), "/spec/claimRef") != nullptr;
      if (taken && !claimed_by(tree(volume), claim)) {
        pending(claim, actions);
        actions.event(claim, "Warning", "FailedBinding",
                      "volume \"" + volume.name() + "\" already bound to a different claim.");
        return;
      }
      return bind(claim, volume, actions);
    }
    grow(claim, volume, status, actions);
    status.get_object()["phase"] = "Bound";
    if (const json::value* modes = find(tree(volume), "/spec/accessModes"))
      status.get_object()["accessModes"] = *modes;
    if (const json::value* capacity = find(tree(volume), "/spec/capacity"); capacity != nullptr) {
      if (object_at(status, "/capacity") == nullptr) status.get_object()["capacity"] = *capacity;
    }
    write_claim_status(claim, status, "it is bound to " + volume.name(), actions);
    actions.reason = "bound to " + volume.name();
  }

  static bool owns(const Object& volume, const Object& claim) {
    return string_at(tree(volume), "/spec/claimRef/uid") == claim.uid();
  }

  // A folder has the size of its disk: growing is a matter of the numbers.
  static void grow(const Object& claim, const Object& volume, json::value& status, Actions& actions) {
    const Quantity wanted = requested_storage(tree(claim));
    const std::string had = string_at(status, "/capacity/storage");
    if (had.empty() || annotation(volume, kProvisionedBy) != kLocalProvisioner) return;
    if (wanted <= Quantity::parse(had).value_or(Quantity())) return;
    if (capacity_of(tree(volume)) < wanted) {
      json::value copy = tree(volume);
      set_at(copy, "/spec/capacity/storage", json::value(wanted.to_string()));
      actions.update(persistent_volumes(), object_from_tree(std::move(copy)), "its claim asks for more");
    }
    set_at(status, "/capacity/storage", json::value(wanted.to_string()));
    actions.event(claim, "Normal", "VolumeResizeSuccessful", "the claim has " + wanted.to_string());
  }

  void provision(const Object& claim, const Object& storage_class, const Object& node, Now, const View& view,
                 Actions& actions) const {
    const std::string class_name = string_at(tree(claim), "/spec/storageClassName");
    if (class_name.empty()) {
      pending(claim, actions);
      actions.event(claim, "Normal", "FailedBinding",
                    "no persistent volumes available for this claim and no storage class is set");
      actions.reason = "no volume fits and there is no class";
      return;
    }
    if (!storage_class) {
      pending(claim, actions);
      actions.event(claim, "Warning", "ProvisioningFailed",
                    "storageclass.storage.k8s.io \"" + class_name + "\" not found");
      actions.reason = "class " + class_name + " does not exist";
      return;
    }
    const std::string provisioner = string_at(tree(storage_class), "/provisioner");
    if (provisioner == "kubernetes.io/no-provisioner") {
      pending(claim, actions);
      actions.event(claim, "Normal", "FailedBinding", "no persistent volumes available for this claim");
      return;
    }
    if (provisioner != kLocalProvisioner) {
      ask_provisioner(claim, provisioner, actions);
      return;
    }
    Object where = node;
    if (!where) {  // Immediate: any node that is there
      const auto all = view.list(nodes());
      const auto ready = std::find_if(all.begin(), all.end(), [](const Object& each) {
        const json::object* condition = find_condition(tree(each), "Ready");
        return condition != nullptr && string_at(*condition, "/status") == "True";
      });
      if (ready != all.end()) where = *ready;
    }
    if (!where) {
      pending(claim, actions);
      actions.event(claim, "Warning", "ProvisioningFailed", "no node is ready that could hold the volume");
      return actions.requeue(kReadyLook);
    }
    const Object volume = local_volume(claim, storage_class, where);
    if (view.get(persistent_volumes(), {}, volume.name())) return;  // it is there; the claim finds it
    actions.event(
        claim, "Normal", "Provisioning",
        "External provisioner is provisioning volume for claim \"" + claim.ns() + "/" + claim.name() + "\"");
    Action& create = actions.create(persistent_volumes(), volume, "a folder on " + where.name());
    create.announce = Announcement{claim, "ProvisioningSucceeded", "Successfully provisioned volume "};
    actions.reason = "provisions " + volume.name();
  }

  // Somebody else's provisioner reads this annotation.
  static void ask_provisioner(const Object& claim, const std::string& provisioner, Actions& actions) {
    pending(claim, actions);
    if (annotation(claim, "volume.kubernetes.io/storage-provisioner") == provisioner) return;
    json::value copy = tree(claim);
    json::object& notes = object_in(copy, "/metadata/annotations");
    notes["volume.kubernetes.io/storage-provisioner"] = provisioner;
    notes["volume.beta.kubernetes.io/storage-provisioner"] = provisioner;
    actions.update(persistent_volume_claims(), object_from_tree(std::move(copy)),
                   "its provisioner is " + provisioner);
    actions.event(claim, "Normal", "ExternalProvisioning",
                  "Waiting for a volume to be created either by the external provisioner '" + provisioner +
                      "' or manually by the system administrator.");
  }

  Object local_volume(const Object& claim, const Object& storage_class, const Object& node) const {
    const std::string name = "pvc-" + claim.uid();
    const std::string root = string_at(tree(storage_class), "/parameters/path", options_.local_root);
    json::value volume = json::object{{"apiVersion", "v1"}, {"kind", "PersistentVolume"}};
    set_at(volume, "/metadata/name", json::value(name));
    object_in(volume, "/metadata/annotations")[kProvisionedBy] = kLocalProvisioner;
    array_in(volume, "/metadata/finalizers").push_back(json::value("kubernetes.io/pv-protection"));
    set_at(volume, "/spec/capacity/storage", json::value(requested_storage(tree(claim)).to_string()));
    if (const json::value* modes = find(tree(claim), "/spec/accessModes"))
      set_at(volume, "/spec/accessModes", *modes);
    set_at(volume, "/spec/claimRef", reference_to(claim));
    set_at(volume, "/spec/hostPath",
           json::object{{"path", root + "/" + name + "_" + claim.ns() + "_" + claim.name()},
                        {"type", "DirectoryOrCreate"}});
    set_at(volume, "/spec/persistentVolumeReclaimPolicy",
           json::value(string_at(tree(storage_class), "/reclaimPolicy", "Delete")));
    set_at(volume, "/spec/storageClassName", json::value(storage_class.name()));
    set_at(volume, "/spec/volumeMode", json::value("Filesystem"));
    const auto host = node.labels().find("kubernetes.io/hostname");
    const std::string host_name = host != node.labels().end() ? host->second : node.name();
    json::object requirement{{"key", "kubernetes.io/hostname"}, {"operator", "In"}, {"values", {host_name}}};
    set_at(volume, "/spec/nodeAffinity/required/nodeSelectorTerms",
           json::array{json::object{{"matchExpressions", json::array{std::move(requirement)}}}});
    return object_from_tree(std::move(volume));
  }

  // ---- volumes

  static void write_phase(const Object& volume, const char* phase, const std::string& message,
                          Actions& actions) {
    json::value status = status_of(volume);
    if (string_at(status, "/phase") == phase && string_at(status, "/message") == message) return;
    status.get_object()["phase"] = phase;
    if (message.empty()) {
      status.get_object().erase("message");
    } else {
      status.get_object()["message"] = message;
    }
    json::value copy = tree(volume);
    set_at(copy, "/status", std::move(status));
    actions.update_status(persistent_volumes(), object_from_tree(std::move(copy)),
                          std::string("it is ") + phase);
  }

  static void sync_volume(const Object& volume, const View& view, Actions& actions) {
    const json::value& root = tree(volume);
    if (object_at(root, "/spec/claimRef") == nullptr) return write_phase(volume, "Available", "", actions);
    const std::string uid = string_at(root, "/spec/claimRef/uid");
    if (uid.empty()) return write_phase(volume, "Available", "", actions);  // prebound; its claim binds it
    const Object claim = view.get(persistent_volume_claims(), string_at(root, "/spec/claimRef/namespace"),
                                  string_at(root, "/spec/claimRef/name"));
    if (claim && claim.uid() == uid) {
      const std::string named = string_at(tree(claim), "/spec/volumeName");
      if (named == volume.name()) return write_phase(volume, "Bound", "", actions);
      if (named.empty()) return;  // the claim goes on from here
      if (annotation(volume, kBoundByController) && annotation(volume, kProvisionedBy) == std::nullopt) {
        json::value copy = root;
        object_in(copy, "/spec").erase("claimRef");
        object_in(copy, "/metadata/annotations").erase(kBoundByController);
        actions.update(persistent_volumes(), object_from_tree(std::move(copy)),
                       "its claim took another volume");
        return;
      }
    }
    release(volume, view, actions);
  }

  static void release(const Object& volume, const View&, Actions& actions) {
    const std::string policy = string_at(tree(volume), "/spec/persistentVolumeReclaimPolicy", "Retain");
    if (policy == "Delete" && annotation(volume, kProvisionedBy) != kLocalProvisioner &&
        annotation(volume, kProvisionedBy) == std::nullopt) {
      write_phase(volume, "Failed", "no provisioner can delete it; delete the data and the object by hand",
                  actions);
      actions.event(volume, "Warning", "VolumeFailedDelete",
                    "error getting deleter volume plugin for volume \"" + volume.name() +
                        "\": no deletable volume plugin matched");
      return;
    }
    // Delete: the agent of its node removes the folder, then the object.
    write_phase(volume, "Released", "", actions);
    actions.reason = "released, policy " + policy;
  }

  const VolumeOptions options_;
};

}  // namespace

std::shared_ptr<const Reconciler> make_volume_binder(VolumeOptions options) {
  return std::make_shared<VolumeBinder>(std::move(options));
}

}  // namespace orchestra::controllers
