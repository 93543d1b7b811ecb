// Namespace life cycle (kubernetes/pkg/controller/namespace/deletion/namespaced_resources_deleter.go).
//
// A terminating namespace: first its pods go, then everything else; when nothing is left the finalizer
// "kubernetes" is taken off through /finalize and the API server removes it. Conditions say what blocks. The
// last step asks the server, not the cache, whether the namespace is empty: an object that was created in the
// last moment would otherwise stay for ever. Custom resources are in the catalog that this reconciler was
// made with; while a definition is there that the catalog lacks, a new reconciler is on its way and nothing
// is finalized.
#include "controllers/namespace/decide.hpp"

#include <algorithm>
#include <map>

#include "controllers/common/objects.hpp"

namespace orchestra::controllers {

namespace {

constexpr const char* kFinalizer = "kubernetes";
constexpr Duration kCatalogWait = std::chrono::milliseconds(100);

ResourceRef definitions() { return {"apiextensions.k8s.io/v1", "customresourcedefinitions"}; }

// What is still there, for the conditions.
struct Remaining {
  std::map<std::string, int> by_resource;   // "pods." -> 2, as upstream prints group resources
  std::map<std::string, int> by_finalizer;  // "example.com/keep" -> 1
  bool pods = false;
};

std::string group_resource(const ResourceRef& resource) {
  const auto slash = resource.api_version.find('/');
  return resource.resource + "." + (slash == std::string::npos ? "" : resource.api_version.substr(0, slash));
}

Remaining remaining_in(const std::string& ns, const std::vector<KnownResource>& catalog, const View& view) {
  Remaining remaining;
  for (const KnownResource& known : catalog) {
    if (!known.namespaced) continue;
    const std::vector<Object> objects = view.list(known.ref, ns);
    if (objects.empty()) continue;
    remaining.by_resource[group_resource(known.ref)] = static_cast<int>(objects.size());
    if (known.ref == pods()) remaining.pods = true;
    for (const Object& object : objects) {
      for (const std::string& finalizer : object.finalizers()) ++remaining.by_finalizer[finalizer];
    }
  }
  return remaining;
}

void remove_objects(const KnownResource& known, const std::string& ns, const View& view, Actions& actions) {
  for (const Object& object : view.list(known.ref, ns)) {
    if (object.deleting()) continue;
    Action& remove = actions.remove(known.ref, object, "its namespace is terminating");
    remove.propagation = "Background";
    remove.independent = true;
  }
}

template <class Print>
std::string join(const std::map<std::string, int>& counts, Print print) {
  std::string text;
  for (const auto& [name, count] : counts) text += (text.empty() ? "" : ", ") + print(name, count);
  return text;
}

json::value status_of(const Object& ns, const Remaining& remaining, Now now) {
  const json::value* before = find(tree(ns), "/status");
  json::value status = before != nullptr && before->is_object() ? *before : json::value(json::object());
  set_at(status, "/phase", json::value("Terminating"));
  json::array& conditions = array_in(status, "/conditions");
  const auto set = [&](const char* type, bool on, const char* reason, const std::string& message) {
    set_condition(conditions, {type, on ? "True" : "False", reason, message}, now.wall_ns, false);
  };
  set("NamespaceDeletionDiscoveryFailure", false, "ResourcesDiscovered",
      "All resources successfully discovered");
  set("NamespaceDeletionGroupVersionParsingFailure", false, "ParsedGroupVersions",
      "All legacy kube types successfully parsed");
  set("NamespaceDeletionContentFailure", false, "ContentDeleted",
      "All content successfully deleted, may be waiting on finalization");
  if (remaining.by_resource.empty()) {
    set("NamespaceContentRemaining", false, "ContentRemoved", "All content successfully removed");
  } else {
    const std::string list = join(remaining.by_resource, [](const std::string& name, int count) {
      return name + " has " + std::to_string(count) + " resource instances";
    });
    set("NamespaceContentRemaining", true, "SomeResourcesRemain", "Some resources are remaining: " + list);
  }
  if (remaining.by_finalizer.empty()) {
    set("NamespaceFinalizersRemaining", false, "ContentHasNoFinalizers",
        "All content-preserving finalizers finished");
  } else {
    const std::string list = join(remaining.by_finalizer, [](const std::string& name, int count) {
      return name + " in " + std::to_string(count) + " resource instances";
    });
    set("NamespaceFinalizersRemaining", true, "SomeFinalizersRemain",
        "Some content in the namespace has finalizers remaining: " + list);
  }
  return status;
}

class NamespaceReconciler final : public Reconciler {
 public:
  explicit NamespaceReconciler(std::vector<KnownResource> catalog) : catalog_(std::move(catalog)) {}

  std::string name() const override { return "namespace"; }

  std::vector<Source> sources() const override {
    std::vector<Source> sources = {watch_self(namespaces()), Source{definitions()}};
    for (const KnownResource& known : catalog_) {
      if (!known.namespaced) continue;
      // Of objects in terminating namespaces only: elsewhere there is nothing to do.
      sources.push_back(
          {known.ref, true, [](const View& view, const Object& old, const Object& now, const KeySink& wake) {
             const std::string& ns = now ? now.ns() : old.ns();
             if (view.get(namespaces(), {}, ns).deleting()) wake(ns);
           }});
    }
    return sources;
  }

  Actions decide(const std::string& key, const View& view, Now now) const override {
    Actions actions;
    const Object ns = view.get(namespaces(), {}, key);
    if (!ns || !ns.deleting()) return actions;
    const Remaining remaining = remaining_in(key, catalog_, view);
    for (const KnownResource& known : catalog_) {
      // Pods first: what they use (secrets, service accounts) stays until they have ended.
      if (known.namespaced && (known.ref == pods() || !remaining.pods))
        remove_objects(known, key, view, actions);
    }
    json::value copy = tree(ns);
    json::value status = status_of(ns, remaining, now);
    if (!same_meaning(find(copy, "/status"), &status)) {
      set_at(copy, "/status", std::move(status));
      actions.update_status(namespaces(), object_from_tree(copy), "what remains").coalesce = true;
    }
    if (!knows_all(view)) {
      actions.requeue(kCatalogWait);
      actions.reason = "waits for the custom resources that are new";
    } else if (remaining.by_resource.empty()) {
      finalize(ns, actions);
      actions.reason = "empty";
    } else {
      actions.reason = std::to_string(remaining.by_resource.size()) + " kinds of objects remain";
    }
    return actions;
  }

  Actions failed(const std::string& key, const View& view, Now now, const Action& action,
                 const Error& error) const override {
    Actions actions;
    const Object ns = view.get(namespaces(), {}, key);
    if (!ns || !ns.deleting() || action.verb != Action::Verb::remove) return actions;
    json::value status = status_of(ns, remaining_in(key, catalog_, view), now);
    set_condition(array_in(status, "/conditions"),
                  {"NamespaceDeletionContentFailure", "True", "ContentDeletionFailed",
                   "Failed to delete all resource types, 1 remaining: " + error.message()},
                  now.wall_ns, false);
    json::value copy = tree(ns);
    set_at(copy, "/status", std::move(status));
    actions.update_status(namespaces(), object_from_tree(std::move(copy)), "deletion failed");
    return actions;
  }

 private:
  bool knows_all(const View& view) const {
    const std::vector<KnownResource> custom = custom_catalog(view.list(definitions()));
    return std::all_of(custom.begin(), custom.end(), [&](const KnownResource& one) {
      return !one.namespaced || std::find(catalog_.begin(), catalog_.end(), one) != catalog_.end();
    });
  }

  void finalize(const Object& ns, Actions& actions) const {
    json::value copy = tree(ns);
    json::array& finalizers = array_in(copy, "/spec/finalizers");
    const auto ours = std::find(finalizers.begin(), finalizers.end(), json::value(kFinalizer));
    if (ours == finalizers.end()) return;
    finalizers.erase(ours);
    Action& action = actions.update(namespaces(), object_from_tree(std::move(copy)), "nothing is left in it");
    action.subresource = "finalize";
    for (const KnownResource& known : catalog_) {
      if (known.namespaced) action.checks.push_back({known.ref, ns.name(), {}, {}, LiveCheck::Expect::none});
    }
  }

  const std::vector<KnownResource> catalog_;
};

}  // namespace

std::shared_ptr<const Reconciler> make_namespace_reconciler(std::vector<KnownResource> catalog) {
  return std::make_shared<NamespaceReconciler>(std::move(catalog));
}

}  // namespace orchestra::controllers
