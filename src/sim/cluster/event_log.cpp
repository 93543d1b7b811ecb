// Recorded logs: what happened in a live cluster, line by line, and as the script of a simulation.
//
// A log tells what the API showed. That a node is not Ready is seen some 50 s after it died; the replay lets
// it die when the log says so, and the simulated control plane sees it 50 s later.
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "api/object_tree.hpp"
#include "base/yaml.hpp"
#include "controllers/common/objects.hpp"
#include "orchestra/env.hpp"
#include "sim/cluster/import.hpp"

namespace orchestra {

using namespace sim;

namespace {

constexpr std::size_t kLinesMax = 1'000'000;
constexpr Duration kAfterwards = std::chrono::minutes(5);  // simulated after the last line
constexpr Duration kLook = std::chrono::milliseconds(100);

struct Line {
  Duration at{};
  std::string type;
  Object object;
};

Error wrong(std::size_t number, const std::string& what) {
  return Error(Error::invalid, "simulation", "line " + std::to_string(number) + " of the log: " + what);
}

Result<Line> read_line(std::string_view text, std::size_t number) {
  auto parsed = parse_json(text);
  if (!parsed) return wrong(number, parsed.error().message());
  if (!parsed->is_object()) return wrong(number, "must be a JSON object");
  Line line;
  const json::value* at = find(*parsed, "/at");
  if (at == nullptr || !at->is_number()) return wrong(number, "\"at\" must be a number of seconds");
  const double seconds = at->to_number<double>();
  if (!(seconds >= 0 && seconds <= 366 * 86400.0)) return wrong(number, "\"at\" must be 0 to 366 days");
  line.at = Duration(static_cast<std::int64_t>(seconds * 1e9));
  line.type = string_at(*parsed, "/type");
  if (line.type != "added" && line.type != "modified" && line.type != "removed")
    return wrong(number, "\"type\" is \"" + line.type + "\"; must be added, modified or removed");
  const json::value* object = find(*parsed, "/object");
  if (object == nullptr || !object->is_object()) return wrong(number, "\"object\" is missing");
  auto made = Object::from_json(to_json(*object));
  if (!made) return wrong(number, made.error().message());
  if (made->name().empty()) return wrong(number, "the object has no name");
  line.object = std::move(*made);
  return line;
}

bool node_ready(const Object& node) {
  const json::object* ready = controllers::find_condition(tree(node), "Ready");
  return ready != nullptr && string_at(*ready, "/status") == "True";
}

// Turns lines into events; what is there at 0 is the beginning.
class Script {
 public:
  explicit Script(SimScenario& scenario) : scenario_(scenario) {}

  void take(const Line& line, std::size_t number) {
    place_ = "line " + std::to_string(number) + " of the log";
    const Object& object = line.object;
    Object& before = last_[object.kind() + "/" + object.ns() + "/" + object.name()];
    const Object now = line.type == "removed" ? Object() : object;
    if (object.kind() == "Node") {
      node(before, now, object, line.at);
    } else if (!made_by_the_cluster(object) || (before && !now)) {
      plain(before, now, line.at);
    }
    before = now;
    if (line.at > scenario_.duration - kAfterwards) scenario_.duration = line.at + kAfterwards;
  }
  std::vector<Object> beginning;

 private:
  void add(SimEvent::Kind kind, Duration at, const std::string& target, std::string text = {}) {
    SimEvent event;
    event.kind = kind;
    event.at = at;
    event.target = target;
    event.text = std::move(text);
    event.place = place_;
    scenario_.events.push_back(std::move(event));
  }

  void node(const Object& before, const Object& now, const Object& any, Duration at) {
    using Kind = SimEvent::Kind;
    const std::string& name = any.name();
    const bool was = before && node_ready(before);
    const bool is = now && node_ready(now);
    if (!known_.contains(name)) {
      known_.insert(name);
      beginning.push_back(any);
      // One that came later has no power until then.
      if (!is || at > Duration::zero()) add(Kind::kill_node, Duration::zero(), name);
      if (is && at > Duration::zero()) add(Kind::restart_node, at, name);
      return;
    }
    if (was && !is) add(Kind::kill_node, at, name);
    if (!was && is) add(Kind::restart_node, at, name);
    const bool cordoned = now && bool_at(tree(now), "/spec/unschedulable");
    if (now && before && cordoned != bool_at(tree(before), "/spec/unschedulable"))
      add(cordoned ? Kind::cordon : Kind::uncordon, at, name);
  }

  void plain(const Object& before, const Object& now, Duration at) {
    using Kind = SimEvent::Kind;
    if (!now) {
      if (before) add(Kind::remove, at, {}, to_yaml(without_life(before)));
      return;
    }
    if (at == Duration::zero() && !before) {
      beginning.push_back(now);
      return;
    }
    json::value next = without_life(now);
    if (before) {
      const json::value last = without_life(before);
      if (controllers::same_meaning(&last, &next)) return;
    }
    add(Kind::apply, at, {}, to_yaml(next));
  }

  SimScenario& scenario_;
  std::map<std::string, Object> last_;
  std::set<std::string> known_;
  std::string place_;
};

}  // namespace

Result<void> import_log(const std::string& log, SimScenario& scenario) {
  Script script(scenario);
  std::size_t number = 0;
  Duration last{};
  std::string_view rest = log;
  while (!rest.empty()) {
    const auto end = rest.find('\n');
    const std::string_view text = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (++number > kLinesMax) return wrong(number, "more than " + std::to_string(kLinesMax) + " lines");
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    ORC_ASSIGN(const Line line, read_line(text, number));
    if (line.at < last) return wrong(number, "is earlier than the line before");
    last = line.at;
    script.take(line, number);
  }
  return import_objects(script.beginning, scenario);
}

Result<void> record_cluster(Engine& engine, const Client& client, Duration time,
                            const std::function<void(const std::string& line)>& write) {
  std::vector<ObjectWatch> watches;
  const auto watch = [&](const char* api_version, const char* resource) -> Result<void> {
    auto begun = client.watch(api_version, resource);
    if (!begun && begun.error().is(Error::not_found)) return {};  // not served there
    if (!begun) return begun.error().with_context(std::string("watching ") + resource);
    watches.push_back(std::move(*begun));
    return {};
  };
  ORC_TRY(watch("v1", "nodes"));
  for (const ImportedResource& each : kImported) ORC_TRY(watch(each.api_version, each.resource));
  const std::int64_t begin = engine.clock().now().steady_ns;
  // What is there when recording begins comes first, and may take a moment.
  constexpr Duration kBeginning = std::chrono::seconds(2);
  while (true) {
    const Duration since(engine.clock().now().steady_ns - begin);
    const double at = since < kBeginning ? 0 : std::round(static_cast<double>(since.count()) / 1e6) / 1e3;
    for (ObjectWatch& each : watches) {
      while (const auto batch = each.poll()) {
        for (const ObjectChange& change : *batch) {
          const char* type = change.type == ObjectChange::Type::added      ? "added"
                             : change.type == ObjectChange::Type::modified ? "modified"
                             : change.type == ObjectChange::Type::removed  ? "removed"
                                                                           : nullptr;
          if (type == nullptr) continue;
          write(to_json(json::object{{"at", at}, {"type", type}, {"object", tree(change.object)}}));
        }
      }
      if (const auto error = each.error()) return error->with_context("recording");
    }
    if (since >= time) return {};
    const Promise<> nobody;
    (void)nobody.pending().wait(kLook);
  }
}

}  // namespace orchestra
