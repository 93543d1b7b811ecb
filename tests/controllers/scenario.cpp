// Scenario files: objects in short lines, one decision, and the whole answer as text.
//
//   at 2026-01-01T00:10:00Z
//   Deployment shop/web app=web image=v2 spec.replicas=3
//   ReplicaSet shop/web-1 app=web hash=1 image=v1 owner=Deployment/web spec.replicas=3 status.readyReplicas=3
//   decide deployment shop/web
//   ----
//   update replicasets shop/web-1
//     /spec/replicas: 3 -> 2
//
// Objects are seen at the time of the last `at`; `step -1h` sets the wall clock, and `restart` begins the
// controllers anew, so that they see everything for the first time.
// A file holds several scenarios between lines of "====". ORC_UPDATE_SCENARIOS=1 rewrites the answers.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "controllers/builtin.hpp"
#include "tests/controllers/world.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/test.hpp"

namespace orchestra::test {

using namespace controllers;

namespace {

const std::map<std::string, ResourceRef>& kinds() {
  static const std::map<std::string, ResourceRef> all = {
      {"Pod", pods()},
      {"Node", nodes()},
      {"Namespace", namespaces()},
      {"Service", services()},
      {"Endpoints", endpoints()},
      {"ConfigMap", config_maps()},
      {"ServiceAccount", service_accounts()},
      {"Deployment", deployments()},
      {"ReplicaSet", replica_sets()},
      {"EndpointSlice", endpoint_slices()},
      {"Lease", leases()},
      {"StatefulSet", stateful_sets()},
      {"DaemonSet", daemon_sets()},
      {"ControllerRevision", controller_revisions()},
      {"ReplicationController", replication_controllers()},
      {"Job", jobs()},
      {"CronJob", cron_jobs()},
      {"PodDisruptionBudget", disruption_budgets()},
      {"PersistentVolume", persistent_volumes()},
      {"PersistentVolumeClaim", persistent_volume_claims()},
      {"StorageClass", storage_classes()},
      {"ResourceQuota", resource_quotas()},
      {"Secret", secrets()},
      {"CertificateSigningRequest", {"certificates.k8s.io/v1", "certificatesigningrequests"}},
      {"ClusterRole", {"rbac.authorization.k8s.io/v1", "clusterroles"}},
      {"ClusterRoleBinding", {"rbac.authorization.k8s.io/v1", "clusterrolebindings"}},
  };
  return all;
}

std::vector<std::string> words_of(const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> words;
  std::string word;
  while (in >> word) words.push_back(word);
  return words;
}

BuiltinOptions options_of_scenarios() {
  BuiltinOptions options;
  options.root_ca_pem = "PEM";
  options.catalog = {{pods(), "Pod", true},
                     {config_maps(), "ConfigMap", true},
                     {services(), "Service", true},
                     {deployments(), "Deployment", true},
                     {replica_sets(), "ReplicaSet", true},
                     {nodes(), "Node", false}};
  options.pod_gc.terminated_max = 2;
  options.sign_certificate = [](const std::string&, const std::vector<std::string>& usages,
                                Duration life) -> Result<std::string> {
    std::string text = "for";
    for (const std::string& usage : usages) text += " " + usage;
    return text + ", " + std::to_string(std::chrono::duration_cast<std::chrono::seconds>(life).count()) +
           " s";
  };
  options.node_ipam = {"10.244.0.0/22", 24};
  return options;
}

json::value value_of(const std::string& text) {
  auto parsed = parse_json(text);
  return parsed ? *parsed : json::value(text);
}

// "a:b,c.d/e:f" as an object of strings.
json::object map_of(const std::string& text) {
  json::object map;
  std::istringstream in(text);
  std::string pair;
  while (std::getline(in, pair, ',')) {
    const auto colon = pair.rfind(':');
    map[pair.substr(0, colon)] = colon == std::string::npos ? "" : pair.substr(colon + 1);
  }
  return map;
}

std::string path_of(const std::string& dotted) {
  std::string path = "/" + dotted;
  for (char& letter : path) {
    if (letter == '.') letter = '/';
  }
  return path;
}

// "Deployment/web" or "Deployment/web/uid", with "!" before it for an owner that does not control.
json::object owner_of(std::string text) {
  const bool controls = text[0] != '!';
  if (!controls) text.erase(0, 1);
  const auto slash = text.find('/');
  const std::string kind = text.substr(0, slash);
  std::string name = text.substr(slash + 1);
  std::string uid = name;
  if (const auto second = name.find('/'); second != std::string::npos) {
    uid = name.substr(second + 1);
    name = name.substr(0, second);
  }
  json::object owner{
      {"apiVersion", kinds().at(kind).api_version}, {"kind", kind}, {"name", name}, {"uid", uid}};
  if (controls) owner["controller"] = true;
  owner["blockOwnerDeletion"] = true;
  return owner;
}

struct Line {
  json::value root;
  std::string kind;

  void app(const std::string& value) {
    if (kind == "Deployment" || kind == "ReplicaSet" || kind == "StatefulSet" || kind == "DaemonSet" ||
        kind == "Job") {
      object_in(root, "/spec/selector/matchLabels")["app"] = value;
      object_in(root, "/spec/template/metadata/labels")["app"] = value;
    } else if (kind == "PodDisruptionBudget") {
      object_in(root, "/spec/selector/matchLabels")["app"] = value;
    } else if (kind == "Service" || kind == "ReplicationController") {
      object_in(root, "/spec/selector")["app"] = value;
      if (kind != "Service") object_in(root, "/spec/template/metadata/labels")["app"] = value;
    }
    if (kind != "Service" && kind != "Deployment") object_in(root, "/metadata/labels")["app"] = value;
  }
  void hash(const std::string& value) {
    object_in(root, "/metadata/labels")["pod-template-hash"] = value;
    if (kind != "ReplicaSet") return;
    object_in(root, "/spec/selector/matchLabels")["pod-template-hash"] = value;
    object_in(root, "/spec/template/metadata/labels")["pod-template-hash"] = value;
  }
  void image(const std::string& value) {
    const json::array containers{{{"name", "main"}, {"image", value}}};
    if (kind == "Pod") {
      object_in(root, "/spec")["containers"] = containers;
    } else {
      object_in(root, "/spec/template/spec")["containers"] = containers;
    }
  }
  void ready(const std::string& value) {
    json::object condition{{"type", "Ready"}, {"status", value == "no" ? "False" : "True"}};
    if (value != "no" && value != "yes") condition["lastTransitionTime"] = value;
    array_in(root, "/status/conditions").push_back(condition);
  }
  void set(const std::string& key, const std::string& value) {
    if (key == "uid") return set_at(root, "/metadata/uid", json::value(value));
    if (key == "rv") return set_at(root, "/metadata/resourceVersion", json::value(value));
    if (key == "generation") return set_at(root, "/metadata/generation", value_of(value));
    if (key == "created") return set_at(root, "/metadata/creationTimestamp", json::value(value));
    if (key == "deleted") return set_at(root, "/metadata/deletionTimestamp", json::value(value));
    if (key == "finalizers") return set_at(root, "/metadata/finalizers", json::array{value});
    if (key == "schedule") {  // _ for spaces
      std::string text = value;
      std::replace(text.begin(), text.end(), '_', ' ');
      return set_at(root, "/spec/schedule", json::value(text));
    }
    if (key == "exit") {
      json::value status = json::object{{"name", "main"}};
      const auto at = value.find('@');
      set_at(status, "/state/terminated/exitCode", value_of(value.substr(0, at)));
      if (at != std::string::npos)
        set_at(status, "/state/terminated/finishedAt", json::value(value.substr(at + 1)));
      array_in(root, "/status/containerStatuses").push_back(std::move(status));
      return;
    }
    if (key == "condition") {  // type:status[:reason[:since]]
      json::object condition;
      std::istringstream in(value);
      std::string part;
      for (const char* name : {"type", "status", "reason"}) {
        if (std::getline(in, part, ':')) condition[name] = part;
      }
      if (std::getline(in, part)) condition["lastTransitionTime"] = part;
      array_in(root, "/status/conditions").push_back(std::move(condition));
      return;
    }
    if (key == "taint") {  // key:effect
      const auto colon = value.rfind(':');
      array_in(root, "/spec/taints")
          .push_back(json::object{{"key", value.substr(0, colon)}, {"effect", value.substr(colon + 1)}});
      return;
    }
    if (key == "owner") return array_in(root, "/metadata/ownerReferences").push_back(owner_of(value));
    if (key == "phase") return set_at(root, "/status/phase", json::value(value));
    if (key == "node") return set_at(root, "/spec/nodeName", json::value(value));
    if (key == "app") return app(value);
    if (key == "hash") return hash(value);
    if (key == "image") return image(value);
    if (key == "ready") return ready(value);
    if (key == "labels" || key == "annotations") {
      for (const auto& [name, text] : map_of(value)) object_in(root, "/metadata/" + key)[name] = text;
      return;
    }
    set_at(root, path_of(key), value_of(value));
  }
};

// Scalars by path; members of lists that have a type or name are called by it.
void flatten(const json::value& value, const std::string& path, std::map<std::string, std::string>& out) {
  if (const json::object* object = value.if_object()) {
    if (object->empty()) out[path] = "{}";
    for (const auto& [key, member] : *object) flatten(member, path + "/" + std::string(key), out);
  } else if (const json::array* array = value.if_array()) {
    if (array->empty()) out[path] = "[]";
    for (std::size_t i = 0; i < array->size(); ++i) {
      std::string id = std::to_string(i);
      for (const char* name : {"/type", "/addresses/0", "/name", "/uid"}) {
        const std::string text = string_at((*array)[i], name);
        if (!text.empty()) {
          id = text;
          break;
        }
      }
      flatten((*array)[i], path + "[" + id + "]", out);
    }
  } else {
    out[path] = value.is_string() ? std::string(value.get_string()) : to_json(value);
  }
}

void print_change(const Object& before, const Object& after, std::string& out) {
  std::map<std::string, std::string> old_values;
  std::map<std::string, std::string> new_values;
  if (before) flatten(tree(before), "", old_values);
  flatten(tree(after), "", new_values);
  for (const auto& [path, value] : old_values) {
    if (!new_values.contains(path)) out += "  " + path + ": " + value + " -> gone\n";
  }
  for (const auto& [path, value] : new_values) {
    const auto old = old_values.find(path);
    if (old != old_values.end() && old->second == value) continue;
    if (!before && (path == "/apiVersion" || path == "/kind" || path.starts_with("/spec/template/spec")))
      continue;
    out += "  " + path + ": " + (old == old_values.end() ? "" : old->second + " -> ") + value + "\n";
  }
}

std::string print(const Actions& actions, const View& view) {
  std::string out;
  if (!actions.reason.empty()) out += "because " + actions.reason + "\n";
  std::string last;
  int repeats = 0;
  const auto flush = [&] {
    if (repeats > 1) out += "  x " + std::to_string(repeats) + "\n";
    repeats = 0;
  };
  for (const Action& action : actions.list) {
    std::string text = action.describe() + "\n";
    for (const LiveCheck& check : action.checks) {
      text += std::string("  if ") + check.resource.resource + " " + check.uid +
              (check.expect == LiveCheck::Expect::present  ? " is there\n"
               : check.expect == LiveCheck::Expect::absent ? " is gone\n"
                                                           : "none in " + check.ns + "\n");
    }
    if (action.grace_period_seconds) text += "  grace " + std::to_string(*action.grace_period_seconds) + "\n";
    if (!action.propagation.empty()) text += "  propagation " + action.propagation + "\n";
    if (action.verb == Action::Verb::patch) text += "  " + action.patch + "\n";
    if (action.verb == Action::Verb::update || action.verb == Action::Verb::create) {
      const bool update = action.verb == Action::Verb::update;
      print_change(update ? view.get(action.resource, action.ns, action.name) : Object(), action.object,
                   text);
    }
    if (text != last) {
      flush();
      out += text;
      last = text;
    }
    ++repeats;
  }
  flush();
  if (actions.requeue_after) {
    out += "again in " +
           std::to_string(
               std::chrono::duration_cast<std::chrono::milliseconds>(*actions.requeue_after).count()) +
           " ms\n";
  }
  return out;
}

// "-1h", "50s"
std::int64_t parse_step(const std::string& text) {
  const std::int64_t unit = text.back() == 'h' ? 3600 : text.back() == 'm' ? 60 : 1;
  return std::stoll(text) * unit * 1'000'000'000;
}

std::string run_scenario(const std::string& given) {
  World world;
  std::istringstream in(given);
  std::string line;
  std::string out;
  while (std::getline(in, line)) {
    if (line.empty() || line[0] == '#') continue;
    const auto words = words_of(line);
    if (words[0] == "at") {
      world.wall_ns = parse_time(words.at(1)).value();
    } else if (words[0] == "step") {
      const auto by = parse_step(words.at(1));
      world.wall_ns += by;
      world.stepped_ns += by;
    } else if (words[0] == "restart") {
      world.restart();
    } else if (words[0] == "decide") {
      const auto reconciler = make_reconciler(words.at(1), options_of_scenarios());
      if (!reconciler) throw std::runtime_error("no controller '" + words[1] + "'");
      world.observe(reconciler->sources());
      out += print(reconciler->decide(words.at(2), world, world.now()), world);
    } else {
      world.see(object_from_line(line));
    }
  }
  return out.empty() ? "nothing\n" : out;
}

std::string read_file(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

Object object_from_line(const std::string& line) {
  const auto words = words_of(line);
  Line object;
  object.kind = words.at(0);
  const ObjectKey key = ObjectKey::from_text(words.at(1));
  object.root = json::object{{"apiVersion", kinds().at(object.kind).api_version},
                             {"kind", object.kind},
                             {"metadata", {{"name", key.name}, {"uid", key.name}, {"resourceVersion", "7"}}}};
  if (!key.ns.empty()) set_at(object.root, "/metadata/namespace", json::value(key.ns));
  for (std::size_t i = 2; i < words.size(); ++i) {
    const auto equal = words[i].find('=');
    if (equal == std::string::npos) throw std::runtime_error("scenario: no '=' in '" + words[i] + "'");
    object.set(words[i].substr(0, equal), words[i].substr(equal + 1));
  }
  return object_from_tree(std::move(object.root));
}

ResourceRef resource_of_object(const Object& object) { return kinds().at(object.kind()); }

TEST_CASE("every scenario of the controllers gives exactly the answer in its file") {
  const std::string folder = std::string(ORCHESTRA_SOURCE_DIR) + "/tests/scenarios/controllers";
  const bool update = std::getenv("ORC_UPDATE_SCENARIOS") != nullptr;
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string path = entry.path();
    const std::string text = read_file(path);
    std::string rewritten;
    std::size_t at = 0;
    while (at < text.size()) {
      const auto end = text.find("\n====\n", at);
      const std::string scenario =
          text.substr(at, end == std::string::npos ? std::string::npos : end + 1 - at);
      at = end == std::string::npos ? text.size() : end + 6;
      const auto split = scenario.find("\n----\n");
      REQUIRE_MESSAGE(split != std::string::npos, path << ": a scenario has no line of ----");
      const std::string given = scenario.substr(0, split + 1);
      const std::string expected = scenario.substr(split + 6);
      const std::string answer = run_scenario(given);
      rewritten += given + "----\n" + answer + (end == std::string::npos ? "" : "====\n");
      ++count;
      if (update) continue;
      INFO(path << "\n" << given);
      CHECK(answer == expected);
    }
    if (update) std::ofstream(path) << rewritten;
  }
  CHECK(count > 0);
}

}  // namespace orchestra::test
