// The ServiceAccount "default" of each namespace (kubernetes/pkg/controller/serviceaccount) and the ConfigMap
// with which pods verify the API server (kubernetes/pkg/controller/certificates/rootcacertpublisher).
#include "controllers/serviceaccount/decide.hpp"

#include "controllers/common/objects.hpp"

namespace orchestra::controllers {

namespace {

constexpr const char* kRootCa = "kube-root-ca.crt";

bool active(const Object& ns) {
  return ns && !ns.deleting() && string_at(tree(ns), "/status/phase") != "Terminating";
}

// Wakes the namespace of an object of one name.
KeysOf namespace_of(std::string name) {
  return [name = std::move(name)](const View&, const Object& old, const Object& now, const KeySink& wake) {
    const Object& object = now ? now : old;
    if (object.name() == name) wake(object.ns());
  };
}

class ServiceAccountReconciler final : public Reconciler {
 public:
  std::string name() const override { return "serviceaccount"; }
  std::vector<Source> sources() const override {
    return {watch_self(namespaces()), {service_accounts(), false, namespace_of("default")}};
  }
  Actions decide(const std::string& key, const View& view, Now) const override {
    Actions actions;
    if (!active(view.get(namespaces(), {}, key)) || view.get(service_accounts(), key, "default"))
      return actions;
    actions.create(service_accounts(),
                   object_from_tree(json::object{{"apiVersion", "v1"},
                                                 {"kind", "ServiceAccount"},
                                                 {"metadata", {{"name", "default"}, {"namespace", key}}}}),
                   "every namespace has one");
    return actions;
  }
};

class RootCaReconciler final : public Reconciler {
 public:
  explicit RootCaReconciler(std::string pem) : pem_(std::move(pem)) {}
  std::string name() const override { return "root-ca-certificate-publisher"; }
  std::vector<Source> sources() const override {
    return {watch_self(namespaces()), {config_maps(), false, namespace_of(kRootCa)}};
  }
  Actions decide(const std::string& key, const View& view, Now) const override {
    Actions actions;
    if (pem_.empty() || !active(view.get(namespaces(), {}, key))) return actions;
    const json::value data = json::object{{"ca.crt", pem_}};
    const Object present = view.get(config_maps(), key, kRootCa);
    if (present) {
      if (same_meaning(find(tree(present), "/data"), &data)) return actions;
      json::value copy = tree(present);
      set_at(copy, "/data", data);
      actions.update(config_maps(), object_from_tree(std::move(copy)), "it holds other certificates");
      return actions;
    }
    constexpr const char* kDescription =
        "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints "
        "such as "
        "the internal service IP or kubernetes.default.svc. No other usage is guaranteed across "
        "distributions of "
        "Kubernetes clusters.";
    const json::object annotations{{"kubernetes.io/description", kDescription}};
    actions.create(config_maps(),
                   object_from_tree(json::object{
                       {"apiVersion", "v1"},
                       {"kind", "ConfigMap"},
                       {"metadata", {{"name", kRootCa}, {"namespace", key}, {"annotations", annotations}}},
                       {"data", data}}),
                   "every namespace has one");
    return actions;
  }

 private:
  const std::string pem_;
};

}  // namespace

std::shared_ptr<const Reconciler> make_service_account_reconciler() {
  return std::make_shared<ServiceAccountReconciler>();
}
std::shared_ptr<const Reconciler> make_root_ca_reconciler(std::string pem) {
  return std::make_shared<RootCaReconciler>(std::move(pem));
}

}  // namespace orchestra::controllers
