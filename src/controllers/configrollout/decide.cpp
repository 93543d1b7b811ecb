// Configuration rollout: `orchestra.dev/config-rollout: rolling` on a Deployment, StatefulSet or DaemonSet
// (spec/delivery.md 6).
//
// The content of every ConfigMap and Secret that the template names is hashed. The hash that the running pods
// have stands in the workload's own annotation; the first look only writes it, so that asking for the feature
// restarts nothing. When the content differs, the new hash goes into the template's annotations as well, and
// the workload's own rules do the rest. A burst of edits is one rollout: a change waits until it is a second
// old, measured by an annotation, since this function has no memory. Metadata of a ConfigMap is not its
// content.
#include "controllers/configrollout/decide.hpp"

#include <array>
#include <set>

#include "controllers/common/objects.hpp"

namespace orchestra::controllers {

namespace {

constexpr const char* kAsked = "orchestra.dev/config-rollout";
constexpr const char* kHash = "orchestra.dev/config-hash";
constexpr const char* kSeen = "orchestra.dev/config-seen";  // "<hash> <time>" of a change in its first second
constexpr std::int64_t kSettle = 1'000'000'000;             // ns

struct Kind {
  const char* name;
  ResourceRef resource;
};
const std::array<Kind, 3>& workloads() {
  static const std::array<Kind, 3> all = {
      {{"Deployment", deployments()}, {"StatefulSet", stateful_sets()}, {"DaemonSet", daemon_sets()}}};
  return all;
}

struct Names {
  std::set<std::string> config_maps, secrets;
};

void add(std::set<std::string>& names, std::string name) {
  if (!name.empty()) names.insert(std::move(name));
}

void names_of_volume(const json::value& volume, Names& names) {
  add(names.config_maps, string_at(volume, "/configMap/name"));
  add(names.secrets, string_at(volume, "/secret/secretName"));
  const json::array* sources = array_at(volume, "/projected/sources");
  if (sources == nullptr) return;
  for (const json::value& source : *sources) {
    add(names.config_maps, string_at(source, "/configMap/name"));
    add(names.secrets, string_at(source, "/secret/name"));
  }
}

Names names_of(const json::value& workload) {
  Names names;
  if (const json::array* volumes = array_at(workload, "/spec/template/spec/volumes")) {
    for (const json::value& volume : *volumes) names_of_volume(volume, names);
  }
  for (const char* list : {"/spec/template/spec/containers", "/spec/template/spec/initContainers"}) {
    const json::array* containers = array_at(workload, list);
    if (containers == nullptr) continue;
    for (const json::value& container : *containers) {
      for (const char* from : {"/envFrom", "/env"}) {
        const json::array* entries = array_at(container, from);
        if (entries == nullptr) continue;
        for (const json::value& entry : *entries) {
          add(names.config_maps, string_at(entry, "/configMapRef/name"));
          add(names.secrets, string_at(entry, "/secretRef/name"));
          add(names.config_maps, string_at(entry, "/valueFrom/configMapKeyRef/name"));
          add(names.secrets, string_at(entry, "/valueFrom/secretKeyRef/name"));
        }
      }
    }
  }
  return names;
}

std::string content_hash(const Names& names, const std::string& ns, const View& view) {
  std::string all;
  const auto include = [&](const ResourceRef& resource, const std::set<std::string>& list) {
    for (const std::string& name : list) {
      const Object object = view.get(resource, ns, name);
      all += resource.resource + "/" + name + ":";
      if (!object) {
        all += "absent;";
        continue;
      }
      for (const char* data : {"/data", "/binaryData"}) {
        if (const json::value* value = find(tree(object), data)) all += canonical_text(*value);
      }
      all += ";";
    }
  };
  include(config_maps(), names.config_maps);
  include(secrets(), names.secrets);
  // Two 32-bit hashes of different beginnings: one alone would collide too easily for "nothing changed".
  return safe_encode(fnv1a_32(all)) + "-" + safe_encode(fnv1a_32("2" + all));
}

class ConfigRollout final : public Reconciler {
 public:
  std::string name() const override { return "config-rollout"; }

  // Keys are "namespace/Kind:name".
  std::vector<Source> sources() const override {
    std::vector<Source> sources;
    for (const Kind& kind : workloads()) {
      sources.push_back(
          {kind.resource, false, [kind](const View&, const Object&, const Object& now, const KeySink& wake) {
             if (now && annotation(now, kAsked)) wake(key_of(kind, now));
           }});
    }
    for (const ResourceRef& resource : {config_maps(), secrets()}) {
      const bool secret = resource == secrets();
      sources.push_back(
          {resource, false,
           [secret](const View& view, const Object& old, const Object& now, const KeySink& wake) {
             const Object& object = now ? now : old;
             for (const Kind& kind : workloads()) {
               for (const Object& workload : view.list(kind.resource, object.ns())) {
                 if (!annotation(workload, kAsked)) continue;
                 const Names names = names_of(tree(workload));
                 const auto& list = secret ? names.secrets : names.config_maps;
                 if (list.contains(object.name())) wake(key_of(kind, workload));
               }
             }
           }});
    }
    return sources;
  }

  Actions decide(const std::string& key, const View& view, Now now) const override {
    Actions actions;
    const ObjectKey id = ObjectKey::from_text(key);
    const auto colon = id.name.find(':');
    for (const Kind& kind : workloads()) {
      if (id.name.substr(0, colon) != kind.name) continue;
      const Object workload = view.get(kind.resource, id.ns, id.name.substr(colon + 1));
      if (workload && !workload.deleting()) look(kind, workload, view, now, actions);
    }
    return actions;
  }

 private:
  static std::string key_of(const Kind& kind, const Object& object) {
    return ObjectKey{object.ns(), std::string(kind.name) + ":" + object.name()}.text();
  }

  static void look(const Kind& kind, const Object& workload, const View& view, Now now, Actions& actions) {
    const auto asked = annotation(workload, kAsked);
    if (!asked) return;
    if (*asked != "rolling") {
      actions.event(workload, "Warning", "UnknownConfigRollout",
                    std::string(kAsked) + " is \"" + *asked + "\"; supported here: rolling");
      return;
    }
    const Names names = names_of(tree(workload));
    if (names.config_maps.empty() && names.secrets.empty()) {
      actions.reason = "its template names no ConfigMap and no Secret";
      return;
    }
    const std::string hash = content_hash(names, workload.ns(), view);
    const auto known = annotation(workload, kHash);
    if (known == hash) {
      actions.reason = "its configuration is what its pods have";
      if (annotation(workload, kSeen))
        write(kind, workload, hash, {}, false, "the change was taken back", actions);
      return;
    }
    if (!known) return write(kind, workload, hash, {}, false, "its configuration is on record", actions);
    const std::string seen = annotation(workload, kSeen).value_or("");
    const auto space = seen.find(' ');
    const auto since =
        space == std::string::npos ? std::nullopt : to_int(std::string_view(seen).substr(space + 1));
    if (!since || seen.substr(0, space) != hash) {
      actions.requeue(Duration(kSettle));
      return write(kind, workload, *known, hash + " " + std::to_string(now.wall_ns), false,
                   "its configuration changed", actions);
    }
    const std::int64_t rest = *since + kSettle - now.wall_ns;
    if (rest > 0 && rest <= kSettle) {  // more: the clock was set back meanwhile
      actions.requeue(Duration(rest));
      actions.reason = "waits for more changes";
      return;
    }
    write(kind, workload, hash, {}, true, "rolls to its new configuration", actions);
    actions.event(workload, "Normal", "ConfigRollout", "configuration changed, rolling to " + hash);
  }

  static void write(const Kind& kind, const Object& workload, const std::string& hash,
                    const std::string& seen, bool roll, const char* why, Actions& actions) {
    json::value copy = tree(workload);
    json::object& notes = object_in(copy, "/metadata/annotations");
    notes[kHash] = hash;
    if (seen.empty()) {
      notes.erase(kSeen);
    } else {
      notes[kSeen] = seen;
    }
    if (roll) object_in(copy, "/spec/template/metadata/annotations")[kHash] = hash;
    actions.update(kind.resource, object_from_tree(std::move(copy)), why);
    actions.reason = why;
  }
};

}  // namespace

std::shared_ptr<const Reconciler> make_config_rollout() { return std::make_shared<ConfigRollout>(); }

}  // namespace orchestra::controllers
