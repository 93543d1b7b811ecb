// EndpointSlice mirroring (kubernetes/pkg/controller/endpointslicemirroring).
//
// A Service without a selector has Endpoints that somebody wrote; balancers and DNS read EndpointSlices only.
// Each subset becomes one slice per address family, at most 1000 addresses. Slices that say what is wanted
// already stay; others are changed in place, then made or removed.
#include "controllers/mirroring/decide.hpp"

#include <algorithm>

#include "controllers/common/objects.hpp"

namespace orchestra::controllers {

namespace {

constexpr const char* kManagedBy = "endpointslice.kubernetes.io/managed-by";
constexpr const char* kManager = "endpointslicemirroring-controller.k8s.io";
constexpr const char* kServiceName = "kubernetes.io/service-name";
constexpr const char* kSkip = "endpointslice.kubernetes.io/skip-mirror";
constexpr const char* kLeader = "control-plane.alpha.kubernetes.io/leader";
constexpr const char* kTrigger = "endpoints.kubernetes.io/last-change-trigger-time";
constexpr std::size_t kAddressesMax = 1000;

bool to_be_mirrored(const Object& endpoints) {
  if (!endpoints || endpoints.deleting()) return false;
  const auto skip = endpoints.labels().find(kSkip);
  if (skip != endpoints.labels().end() && skip->second == "true") return false;
  return !annotation(endpoints, kLeader);
}

json::object endpoint_of(const json::value& address, bool ready) {
  json::object endpoint{{"addresses", {string_at(address, "/ip")}}, {"conditions", {{"ready", ready}}}};
  for (const char* name : {"hostname", "nodeName"}) {
    const std::string value = string_at(address, std::string("/") + name);
    if (!value.empty()) endpoint[name] = value;
  }
  if (const json::value* target = find(address, "/targetRef")) endpoint["targetRef"] = *target;
  return endpoint;
}

// The slices of one Endpoints object, without names.
std::vector<json::value> wanted_slices(const Object& endpoints) {
  std::vector<json::value> slices;
  const json::array* subsets = array_at(tree(endpoints), "/subsets");
  if (subsets == nullptr) return slices;
  for (const json::value& subset : *subsets) {
    for (const char* family : {"IPv4", "IPv6"}) {
      json::array list;
      for (const bool ready : {true, false}) {
        const json::array* addresses = array_at(subset, ready ? "/addresses" : "/notReadyAddresses");
        if (addresses == nullptr) continue;
        for (const json::value& address : *addresses) {
          const bool six = string_at(address, "/ip").find(':') != std::string::npos;
          if (six == (family[3] == '6') && list.size() < kAddressesMax)
            list.push_back(endpoint_of(address, ready));
        }
      }
      if (list.empty()) continue;
      json::array ports;
      if (const json::array* given = array_at(subset, "/ports")) {
        for (const json::value& port : *given) {
          json::object each{{"name", string_at(port, "/name")},
                            {"port", int_at(port, "/port")},
                            {"protocol", string_at(port, "/protocol", "TCP")}};
          const std::string application = string_at(port, "/appProtocol");
          if (!application.empty()) each["appProtocol"] = application;
          ports.push_back(std::move(each));
        }
      }
      slices.push_back(
          json::object{{"addressType", family}, {"endpoints", std::move(list)}, {"ports", std::move(ports)}});
    }
  }
  return slices;
}

class Mirroring final : public Reconciler {
 public:
  std::string name() const override { return "endpointslice-mirroring"; }
  std::vector<Source> sources() const override {
    Source of_slices{endpoint_slices(), false,
                     [](const View&, const Object& old, const Object& now, const KeySink& wake) {
                       const Object& slice = now ? now : old;
                       const auto manager = slice.labels().find(kManagedBy);
                       const auto service = slice.labels().find(kServiceName);
                       if (manager == slice.labels().end() || manager->second != kManager) return;
                       if (service != slice.labels().end())
                         wake(ObjectKey{slice.ns(), service->second}.text());
                     }};
    return {watch_self(endpoints()), watch_self(services()), std::move(of_slices)};
  }

  Actions decide(const std::string& key, const View& view, Now) const override {
    Actions actions;
    const ObjectKey id = ObjectKey::from_text(key);
    const Object source = view.get(endpoints(), id.ns, id.name);
    const Object service = view.get(services(), id.ns, id.name);
    const LabelMatcher ours = [&](const LabelMap& labels) {
      const auto manager = labels.find(kManagedBy);
      const auto owner = labels.find(kServiceName);
      return manager != labels.end() && manager->second == kManager && owner != labels.end() &&
             owner->second == id.name;
    };
    std::vector<Object> present =
        view.select(endpoint_slices(), id.ns, ours, {{kServiceName, id.name}, {kManagedBy, kManager}});
    const json::object* selector = service ? object_at(tree(service), "/spec/selector") : nullptr;
    const bool by_hand = service && (selector == nullptr || selector->empty());
    std::vector<json::value> wanted;
    if (by_hand && to_be_mirrored(source)) wanted = wanted_slices(source);
    for (json::value& slice : wanted) dress(slice, source);
    take_equal(wanted, present);
    for (json::value& slice : wanted) place(std::move(slice), source, present, actions);
    for (const Object& slice : present) actions.remove(endpoint_slices(), slice, "nothing stands behind it");
    actions.reason = by_hand ? "mirrored" : "not written by hand";
    return actions;
  }

 private:
  // Labels and annotations of the source, and our own.
  static void dress(json::value& slice, const Object& source) {
    json::object labels;
    for (const auto& [name, value] : source.labels()) labels[name] = value;
    labels[kManagedBy] = kManager;
    labels[kServiceName] = source.name();
    json::object notes;
    for (const auto& [name, value] : source.annotations()) {
      if (name != kTrigger && name != "kubectl.kubernetes.io/last-applied-configuration") notes[name] = value;
    }
    set_at(slice, "/metadata/labels", std::move(labels));
    if (!notes.empty()) set_at(slice, "/metadata/annotations", std::move(notes));
  }

  static bool says(const Object& present, const json::value& wanted) {
    for (const char* name :
         {"/addressType", "/endpoints", "/ports", "/metadata/labels", "/metadata/annotations"}) {
      if (!same_meaning(find(tree(present), name), find(wanted, name))) return false;
    }
    return true;
  }

  static void take_equal(std::vector<json::value>& wanted, std::vector<Object>& present) {
    std::erase_if(wanted, [&](const json::value& slice) {
      const auto equal =
          std::find_if(present.begin(), present.end(), [&](const Object& each) { return says(each, slice); });
      if (equal == present.end()) return false;
      present.erase(equal);
      return true;
    });
  }

  // Changes a slice of the same family, else makes one.
  static void place(json::value slice, const Object& source, std::vector<Object>& present, Actions& actions) {
    const std::string family = string_at(slice, "/addressType");
    const auto same = std::find_if(present.begin(), present.end(), [&](const Object& each) {
      return string_at(tree(each), "/addressType") == family;
    });
    if (same != present.end()) {
      json::value copy = tree(*same);
      for (const char* name : {"/endpoints", "/ports", "/metadata/labels"})
        set_at(copy, name, *find(slice, name));
      if (const json::value* notes = find(slice, "/metadata/annotations")) {
        set_at(copy, "/metadata/annotations", *notes);
      } else {
        object_in(copy, "/metadata").erase("annotations");
      }
      actions.update(endpoint_slices(), object_from_tree(std::move(copy)), "its addresses changed");
      present.erase(same);
      return;
    }
    json::object& root = object_in(slice, "");
    root["apiVersion"] = "discovery.k8s.io/v1";
    root["kind"] = "EndpointSlice";
    json::object& metadata = object_in(slice, "/metadata");
    metadata["generateName"] = source.name() + "-";
    metadata["namespace"] = source.ns();
    array_in(slice, "/metadata/ownerReferences").push_back(controller_reference(source));
    actions.create(endpoint_slices(), object_from_tree(std::move(slice)), "addresses written by hand");
  }
};

}  // namespace

std::shared_ptr<const Reconciler> make_endpoint_slice_mirroring() { return std::make_shared<Mirroring>(); }

}  // namespace orchestra::controllers
