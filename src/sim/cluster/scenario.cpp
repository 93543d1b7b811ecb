// A scenario file: YAML into SimScenario. Whatever is not known, has the wrong type or contradicts itself is
// refused with file, line and column: a misspelt fault must not be a fault that never happens.
#include <charconv>
#include <cmath>
#include <set>

#include "base/yaml_marks.hpp"
#include "orchestra/quantity.hpp"
#include "orchestra/simulator.hpp"

namespace orchestra {
namespace {

constexpr std::size_t kScenarioBytesMax = 4u << 20;
constexpr std::size_t kNodesMax = 100'000;
constexpr Duration kDurationMax = std::chrono::hours(24 * 366);
constexpr Duration kPeerDelayMax = std::chrono::milliseconds(50);
constexpr Duration kStepMin = std::chrono::milliseconds(1);  // heartbeats, samples, repetitions

// "1h30m", "250ms", "90s"; a plain 0 is 0.
std::optional<Duration> read_duration(std::string_view text) {
  if (text == "0") return Duration::zero();
  double total = 0;
  if (text.empty()) return std::nullopt;
  while (!text.empty()) {
    double number = 0;
    const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (failed != std::errc{} || number < 0) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    static constexpr std::pair<std::string_view, double> kUnits[] = {
        {"ms", 1e6}, {"us", 1e3}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}, {"d", 86400e9}};
    bool found = false;
    for (const auto& [unit, ns] : kUnits) {
      if (text.substr(0, unit.size()) != unit) continue;
      text.remove_prefix(unit.size());
      total += number * ns;
      found = true;
      break;
    }
    if (!found) return std::nullopt;
  }
  if (!(total <= static_cast<double>(kDurationMax.count()))) return std::nullopt;
  return Duration(static_cast<std::int64_t>(total));
}

/// One value of the file and where it is.
class Field {
 public:
  Field(const MarkedYaml& yaml, const std::string& file, const json::value& value, std::string path)
      : yaml_(&yaml), file_(&file), value_(&value), path_(std::move(path)) {}

  const json::value& value() const { return *value_; }
  std::string place() const { return *file_ + " " + yaml_->where(path_); }
  Error wrong(const std::string& what) const {
    return Error(Error::invalid, "simulation",
                 place() + ": " + (path_.empty() ? "the scenario" : path_) + ": " + what);
  }
  Result<void> keys(const std::set<std::string>& known) const {
    if (!value_->is_object()) return wrong("must be a mapping");
    for (const auto& [key, ignored] : value_->get_object()) {
      if (known.contains(std::string(key))) continue;
      std::string names;
      for (const std::string& name : known) names += (names.empty() ? "" : ", ") + name;
      return below(std::string(key), ignored).wrong("is not known here; known are " + names);
    }
    return {};
  }
  std::optional<Field> get(const std::string& key) const {
    const auto found = value_->get_object().find(key);
    if (found == value_->get_object().end() || found->value().is_null()) return std::nullopt;
    return below(key, found->value());
  }
  Result<std::vector<Field>> list() const {
    if (!value_->is_array()) return wrong("must be a list");
    std::vector<Field> all;
    for (const json::value& each : value_->get_array())
      all.emplace_back(*yaml_, *file_, each, path_ + "[" + std::to_string(all.size()) + "]");
    return all;
  }
  Result<std::string> text() const {
    if (!value_->is_string()) return wrong("must be text, not " + to_json(*value_));
    return std::string(value_->get_string());
  }
  /// Text, or a number as it is written.
  Result<std::string> word() const {
    if (value_->is_string()) return std::string(value_->get_string());
    if (value_->is_number()) return to_json(*value_);
    return wrong("must be text or a number");
  }
  Result<double> number(double least, double most) const {
    if (!value_->is_number()) return wrong("must be a number, not " + to_json(*value_));
    const double number = value_->to_number<double>();
    if (number >= least && number <= most) return number;
    return wrong(to_json(*value_) + " is outside of " + to_json(least) + ".." + to_json(most));
  }
  Result<std::int64_t> integer(std::int64_t least, std::int64_t most) const {
    if (!value_->is_int64() && !value_->is_uint64())
      return wrong("must be a whole number, not " + to_json(*value_));
    const bool huge = value_->is_uint64();
    if (!huge && value_->get_int64() >= least && value_->get_int64() <= most) return value_->get_int64();
    return wrong(to_json(*value_) + " is outside of " + std::to_string(least) + ".." + std::to_string(most));
  }
  Result<Duration> duration() const {
    ORC_ASSIGN(const std::string written, word());
    const auto read = read_duration(written);
    if (!read)
      return wrong("\"" + written + "\" is no time; write for example 250ms, 90s, 1h30m (at most 366d)");
    return *read;
  }
  /// "2s..10s", or one time.
  Result<SimRange> range() const {
    ORC_ASSIGN(const std::string written, word());
    const auto dots = written.find("..");
    const auto least = read_duration(written.substr(0, dots));
    const auto most = dots == std::string::npos ? least : read_duration(written.substr(dots + 2));
    if (!least || !most) return wrong("\"" + written + "\" is no range of times; write for example 2s..10s");
    if (*most < *least) return wrong("\"" + written + "\" ends before it begins");
    return SimRange{*least, *most};
  }
  Result<std::string> quantity() const {
    ORC_ASSIGN(const std::string written, word());
    const auto parsed = Quantity::parse(written);
    if (!parsed) return wrong(parsed.error().message());
    if (parsed->sign() < 0) return wrong("\"" + written + "\" is negative");
    return written;
  }
  Result<std::map<std::string, std::string>> texts() const {
    if (!value_->is_object()) return wrong("must be a mapping of texts");
    std::map<std::string, std::string> all;
    for (const auto& [key, each] : value_->get_object()) {
      ORC_ASSIGN(all[std::string(key)], below(std::string(key), each).word());
    }
    return all;
  }
  Result<std::vector<std::string>> words() const {
    ORC_ASSIGN(const std::vector<Field> fields, list());
    std::vector<std::string> all;
    for (const Field& each : fields) {
      ORC_ASSIGN(std::string one, each.text());
      all.push_back(std::move(one));
    }
    return all;
  }

 private:
  Field below(const std::string& key, const json::value& value) const {
    return {*yaml_, *file_, value, path_.empty() ? key : path_ + "." + key};
  }
  const MarkedYaml* yaml_;
  const std::string* file_;
  const json::value* value_;
  std::string path_;
};

// Reads `field` where it is there.
#define ORC_SIM_READ(into, parent, key, how)  \
  if (const auto found = (parent).get(key)) { \
    ORC_ASSIGN(auto read_value, found->how);  \
    into = std::move(read_value);             \
  }

Result<SimNodes> read_nodes(const Field& field) {
  ORC_TRY(field.keys({"name", "count", "cpu", "memory", "pods", "resources", "zones", "labels", "taints"}));
  SimNodes nodes;
  ORC_SIM_READ(nodes.name, field, "name", text());
  ORC_SIM_READ(nodes.count, field, "count", integer(1, kNodesMax));
  ORC_SIM_READ(nodes.cpu, field, "cpu", quantity());
  ORC_SIM_READ(nodes.memory, field, "memory", quantity());
  ORC_SIM_READ(nodes.pods, field, "pods", integer(1, 100'000));
  ORC_SIM_READ(nodes.resources, field, "resources", texts());
  ORC_SIM_READ(nodes.zones, field, "zones", words());
  ORC_SIM_READ(nodes.labels, field, "labels", texts());
  ORC_SIM_READ(nodes.taints, field, "taints", words());
  for (const std::string& taint : nodes.taints) {
    if (taint.find(':') == std::string::npos)
      return field.get("taints")->wrong("\"" + taint + "\" is no taint; write key=value:NoSchedule");
  }
  return nodes;
}

Result<SimModel> read_model(const Field& field) {
  ORC_TRY(field.keys({"pull", "start", "ready", "stop", "run", "boot", "fail", "crashes_per_hour",
                      "heartbeat", "every_renewal", "network", "disk"}));
  SimModel model;
  ORC_SIM_READ(model.pull, field, "pull", range());
  ORC_SIM_READ(model.start, field, "start", range());
  ORC_SIM_READ(model.ready, field, "ready", range());
  ORC_SIM_READ(model.stop, field, "stop", range());
  ORC_SIM_READ(model.run, field, "run", range());
  ORC_SIM_READ(model.boot, field, "boot", range());
  ORC_SIM_READ(model.network, field, "network", range());
  ORC_SIM_READ(model.disk, field, "disk", range());
  for (const auto& [key, most] :
       {std::pair("network", model.network.most), std::pair("disk", model.disk.most)}) {
    if (most > kPeerDelayMax)
      return field.get(key)->wrong(
          "must be at most 50ms: peers elect a new leader after half a second of silence");
  }
  ORC_SIM_READ(model.fail, field, "fail", number(0, 1));
  ORC_SIM_READ(model.crashes_per_hour, field, "crashes_per_hour", number(0, 3600));
  ORC_SIM_READ(model.heartbeat, field, "heartbeat", duration());
  if (const auto every = field.get("every_renewal")) {
    if (!every->value().is_bool()) return every->wrong("must be true or false");
    model.every_renewal = every->value().get_bool();
  }
  if (model.heartbeat < std::chrono::seconds(1) || model.heartbeat > std::chrono::seconds(40))
    return field.get("heartbeat")->wrong("must be 1s to 40s: after 50s of silence a node counts as gone");
  return model;
}

Result<SimLoad> read_load(const Field& field) {
  ORC_TRY(field.keys({"service", "requests_per_second", "daily", "per_pod", "latency"}));
  SimLoad load;
  if (!field.get("service")) return field.wrong("service is missing");
  ORC_SIM_READ(load.service, field, "service", text());
  if (load.service.find('/') == std::string::npos)
    return field.get("service")->wrong("must be namespace/name");
  ORC_SIM_READ(load.requests_per_second, field, "requests_per_second", number(0, 1e9));
  ORC_SIM_READ(load.daily, field, "daily", number(0, 1));
  ORC_SIM_READ(load.per_pod, field, "per_pod", number(1e-6, 1e9));
  ORC_SIM_READ(load.latency, field, "latency", duration());
  return load;
}

const std::map<std::string, SimEvent::Kind>& actions() {
  using Kind = SimEvent::Kind;
  static const std::map<std::string, Kind> kActions{{"kill_node", Kind::kill_node},
                                                    {"partition_node", Kind::partition_node},
                                                    {"restart_node", Kind::restart_node},
                                                    {"kill_zone", Kind::kill_zone},
                                                    {"partition_zone", Kind::partition_zone},
                                                    {"delete_pods", Kind::delete_pods},
                                                    {"scale", Kind::scale},
                                                    {"apply", Kind::apply},
                                                    {"apply_file", Kind::apply},
                                                    {"remove", Kind::remove},
                                                    {"cordon", Kind::cordon},
                                                    {"uncordon", Kind::uncordon},
                                                    {"set_image", Kind::set_image},
                                                    {"stop_controllers", Kind::stop_controllers},
                                                    {"kill_peer", Kind::kill_peer},
                                                    {"partition_peer", Kind::partition_peer},
                                                    {"slow_disk", Kind::slow_disk},
                                                    {"hand_over", Kind::hand_over},
                                                    {"drain", Kind::drain},
                                                    {"delete_node", Kind::delete_node},
                                                    {"slow_probes", Kind::slow_probes},
                                                    {"registry_down", Kind::registry_down},
                                                    {"step_clock", Kind::step_clock}};
  return kActions;
}

Result<void> read_action(const Field& action, const std::string& name, SimEvent& event,
                         const SimScenario::ReadFile& read) {
  using Kind = SimEvent::Kind;
  if (event.kind == Kind::stop_controllers || event.kind == Kind::hand_over ||
      event.kind == Kind::registry_down) {
    if (!action.value().is_bool() || !action.value().get_bool()) return action.wrong("must be true");
    return {};
  }
  if (name == "apply_file") {
    ORC_ASSIGN(const std::string path, action.text());
    if (!read) return action.wrong("files cannot be read here");
    auto text = read(path);
    if (!text) return action.wrong(text.error().to_string());
    event.text = std::move(*text);
    return {};
  }
  if (event.kind == Kind::apply) {
    ORC_ASSIGN(event.text, action.text());
    return {};
  }
  if (event.kind == Kind::step_clock) {
    ORC_TRY(action.keys({"of", "by"}));
    if (!action.get("of") || !action.get("by"))
      return action.wrong("needs \"of\" (a node, or a peer) and \"by\" (5m, -5m)");
    ORC_ASSIGN(event.target, action.get("of")->word());
    ORC_ASSIGN(const std::string by, action.get("by")->word());
    const bool back = by.rfind('-', 0) == 0;
    const auto read = read_duration(std::string_view(by).substr(back ? 1 : 0));
    if (!read || *read == Duration::zero())
      return action.get("by")->wrong("\"" + by + "\" is no step; write for example 5m, or -90s");
    event.by = back ? -*read : *read;
    return {};
  }
  if (event.kind == Kind::delete_pods || event.kind == Kind::scale || event.kind == Kind::set_image) {
    const char* second = event.kind == Kind::delete_pods ? "count"
                         : event.kind == Kind::scale     ? "to"
                                                         : "image";
    ORC_TRY(action.keys({"of", second}));
    if (!action.get("of") || !action.get(second))
      return action.wrong(std::string("needs \"of\" (namespace/name) and \"") + second + "\"");
    ORC_ASSIGN(event.target, action.get("of")->text());
    const bool any = event.kind == Kind::delete_pods && event.target == "random";
    if (!any && event.target.find('/') == std::string::npos)
      return action.get("of")->wrong("must be namespace/name, or kind/namespace/name");
    if (event.kind == Kind::set_image) {
      ORC_ASSIGN(event.text, action.get(second)->text());
    } else {
      ORC_ASSIGN(event.count, action.get(second)->integer(event.kind == Kind::scale ? 0 : 1, 1'000'000));
    }
    return {};
  }
  ORC_ASSIGN(event.target, action.word());
  if (event.kind == Kind::remove && event.target.find('/') == std::string::npos)
    return action.wrong("must be kind/namespace/name");
  return {};
}

Result<SimEvent> read_event(const Field& field, const SimScenario::ReadFile& read) {
  std::set<std::string> known{"at", "for", "every", "until"};
  for (const auto& [name, kind] : actions()) known.insert(name);
  ORC_TRY(field.keys(known));
  SimEvent event;
  event.place = field.place();
  std::string chosen;
  for (const auto& [name, kind] : actions()) {
    if (!field.get(name)) continue;
    if (!chosen.empty())
      return field.get(name)->wrong("one event does one thing, and this one does " + chosen);
    chosen = name;
    event.kind = kind;
  }
  if (chosen.empty()) return field.wrong("says not what happens (kill_node, scale, apply, ...)");
  if (!field.get("at")) return field.wrong("says not when (at: 5m)");
  ORC_SIM_READ(event.at, field, "at", duration());
  ORC_SIM_READ(event.lasts, field, "for", duration());
  ORC_SIM_READ(event.every, field, "every", duration());
  ORC_SIM_READ(event.until, field, "until", duration());
  if (event.every && *event.every < kStepMin) return field.get("every")->wrong("must be at least 1ms");
  if (event.until && !event.every) return field.get("until")->wrong("is for events with \"every\"");
  if (event.until && *event.until < event.at) return field.get("until")->wrong("is before \"at\"");
  using Kind = SimEvent::Kind;
  static const std::set<Kind> kLasting{Kind::kill_node,      Kind::partition_node,   Kind::kill_zone,
                                       Kind::partition_zone, Kind::stop_controllers, Kind::cordon,
                                       Kind::kill_peer,      Kind::partition_peer,   Kind::slow_disk,
                                       Kind::delete_node,    Kind::slow_probes,      Kind::registry_down,
                                       Kind::step_clock};
  if (event.lasts && !kLasting.contains(event.kind)) return field.get("for")->wrong(chosen + " has no end");
  ORC_TRY(read_action(*field.get(chosen), chosen, event, read));
  return event;
}

Result<SimExpectation> read_expectation(const Field& field) {
  using Kind = SimExpectation::Kind;
  static const std::map<std::string, Kind> kKinds{
      {"available", Kind::available}, {"recovered", Kind::recovered}, {"pending", Kind::pending},
      {"completed", Kind::completed}, {"converged", Kind::converged}, {"served", Kind::served}};
  ORC_TRY(field.keys({"available", "recovered", "pending", "completed", "converged", "served", "at_least",
                      "from", "until", "within"}));
  SimExpectation expect;
  expect.place = field.place();
  std::string chosen;
  for (const auto& [name, kind] : kKinds) {
    if (!field.get(name)) continue;
    if (!chosen.empty()) return field.get(name)->wrong("one entry expects one thing, and this one " + chosen);
    chosen = name;
    expect.kind = kind;
  }
  if (chosen.empty())
    return field.wrong(
        "expects nothing; known are available, recovered, pending, completed, converged, served");
  const Field what = *field.get(chosen);
  const bool needs_bound = expect.kind == Kind::available || expect.kind == Kind::served;
  const bool needs_within =
      expect.kind == Kind::recovered || expect.kind == Kind::completed || expect.kind == Kind::converged;
  if (expect.kind == Kind::pending) {
    ORC_ASSIGN(expect.bound, what.number(0, 1e9));
  } else if (expect.kind == Kind::converged) {
    if (!what.value().is_bool() || !what.value().get_bool()) return what.wrong("must be true");
  } else {
    ORC_ASSIGN(expect.target, what.text());
    if (expect.target.find('/') == std::string::npos) return what.wrong("must be namespace/name");
  }
  if (needs_bound != field.get("at_least").has_value())
    return field.wrong(chosen + (needs_bound ? " needs at_least" : " has no at_least"));
  if (needs_within != field.get("within").has_value())
    return field.wrong(chosen + (needs_within ? " needs within (a time)" : " has no within"));
  ORC_SIM_READ(expect.bound, field, "at_least", number(0, 1e9));
  if (expect.kind == Kind::served && expect.bound > 1)
    return field.get("at_least")->wrong("is a share of the requests, 0 to 1");
  ORC_SIM_READ(expect.from, field, "from", duration());
  ORC_SIM_READ(expect.until, field, "until", duration());
  ORC_SIM_READ(expect.within, field, "within", duration());
  if (expect.until && *expect.until < expect.from) return field.get("until")->wrong("is before \"from\"");
  return expect;
}

Result<void> read_objects(const Field& root, SimScenario& scenario, const SimScenario::ReadFile& read) {
  if (const auto files = root.get("files")) {
    ORC_ASSIGN(const std::vector<Field> all, files->list());
    for (const Field& each : all) {
      ORC_ASSIGN(const std::string path, each.text());
      if (!read) return each.wrong("files cannot be read here");
      auto text = read(path);
      if (!text) return each.wrong(text.error().to_string());
      if (auto parsed = Object::many_from_yaml(*text); !parsed)
        return each.wrong(path + ": " + parsed.error().message());
      scenario.objects.push_back(std::move(*text));
    }
  }
  if (const auto objects = root.get("objects")) {
    ORC_ASSIGN(std::string text, objects->text());
    if (auto parsed = Object::many_from_yaml(text); !parsed) return objects->wrong(parsed.error().message());
    scenario.objects.push_back(std::move(text));
  }
  return {};
}

}  // namespace

Result<Duration> parse_sim_duration(const std::string& text) {
  if (const auto read = read_duration(text)) return *read;
  return Error(Error::invalid, "simulation",
               "\"" + text + "\" is no time; write for example 250ms, 90s, 1h30m (at most 366d)");
}

Result<SimScenario> SimScenario::from_yaml(const std::string& text, const std::string& file,
                                           const ReadFile& read, const SimScenario* base) {
  if (text.size() > kScenarioBytesMax) {
    return Error(
        Error::too_large, "simulation",
        file + ": " + std::to_string(text.size()) + " bytes; at most " + std::to_string(kScenarioBytesMax));
  }
  auto parsed = parse_marked_yaml(text);
  if (!parsed) return parsed.error().with_context(file);
  const Field root(*parsed, file, parsed->value, "");
  ORC_TRY(root.keys({"name", "seed", "duration", "sample", "peers", "nodes", "model", "files", "objects",
                     "load", "events", "expect"}));
  SimScenario scenario = base == nullptr ? SimScenario() : *base;
  ORC_SIM_READ(scenario.name, root, "name", text());
  ORC_SIM_READ(scenario.seed, root, "seed", integer(0, std::numeric_limits<std::int64_t>::max()));
  ORC_SIM_READ(scenario.duration, root, "duration", duration());
  ORC_SIM_READ(scenario.sample, root, "sample", duration());
  ORC_SIM_READ(scenario.peers, root, "peers", integer(1, 5));
  if (scenario.peers % 2 == 0)
    return root.get("peers")->wrong("must be 1, 3 or 5: an even number bears no more losses");
  const auto each = [&](const char* key, const auto& one) -> Result<void> {
    const auto found = root.get(key);
    if (!found) return {};
    ORC_ASSIGN(const std::vector<Field> fields, found->list());
    for (const Field& field : fields) ORC_TRY(one(field));
    return {};
  };
  ORC_TRY(each("nodes", [&](const Field& field) -> Result<void> {
    ORC_ASSIGN(SimNodes nodes, read_nodes(field));
    scenario.nodes.push_back(std::move(nodes));
    return {};
  }));
  if (const auto model = root.get("model")) {
    ORC_ASSIGN(scenario.model, read_model(*model));
  }
  ORC_TRY(each("load", [&](const Field& field) -> Result<void> {
    ORC_ASSIGN(SimLoad load, read_load(field));
    scenario.load.push_back(std::move(load));
    return {};
  }));
  ORC_TRY(each("events", [&](const Field& field) -> Result<void> {
    ORC_ASSIGN(SimEvent event, read_event(field, read));
    if (event.at > scenario.duration)
      return field.get("at")->wrong("is after the end of the simulation (duration)");
    scenario.events.push_back(std::move(event));
    return {};
  }));
  ORC_TRY(each("expect", [&](const Field& field) -> Result<void> {
    ORC_ASSIGN(SimExpectation expect, read_expectation(field));
    if (expect.from + expect.within.value_or(Duration::zero()) > scenario.duration)
      return field.wrong("is about a time after the end of the simulation (duration)");
    scenario.expect.push_back(std::move(expect));
    return {};
  }));
  ORC_TRY(read_objects(root, scenario, read));
  if (auto sound = scenario.check(); !sound) return sound.error().with_context(file);
  return scenario;
}

Result<void> SimScenario::check() const {
  const auto wrong = [](const std::string& what) { return Error(Error::invalid, "simulation", what); };
  if (duration <= Duration::zero() || duration > kDurationMax)
    return wrong("duration must be above 0, at most 366d");
  if (sample && *sample < kStepMin) return wrong("sample must be at least 1ms");
  if (peers != 1 && peers != 3 && peers != 5) return wrong("peers must be 1, 3 or 5");
  std::set<std::string> names, zones;
  std::size_t count = 0;
  for (const SimNodes& each : nodes) {
    if (!names.insert(each.name).second)
      return wrong("two entries of nodes have the name \"" + each.name + "\"");
    count += each.count;
    zones.insert(each.zones.begin(), each.zones.end());
  }
  if (count > kNodesMax) return wrong("more than " + std::to_string(kNodesMax) + " nodes");
  const auto known_node = [&](const std::string& name) {
    for (const SimNodes& each : nodes) {
      if (each.exact_name && each.name == name) return true;
      if (each.exact_name || name.size() <= each.name.size() + 1 ||
          name.compare(0, each.name.size(), each.name) != 0 || name[each.name.size()] != '-') {
        continue;
      }
      std::size_t index = 0;
      const char* end = name.data() + name.size();
      const auto [stop, failed] = std::from_chars(name.data() + each.name.size() + 1, end, index);
      if (failed == std::errc{} && stop == end && index < each.count) return true;
    }
    return false;
  };
  using Kind = SimEvent::Kind;
  for (const SimEvent& event : events) {
    const std::string at = event.place.empty() ? std::string() : event.place + ": ";
    const bool of_node = event.kind == Kind::kill_node || event.kind == Kind::partition_node ||
                         event.kind == Kind::restart_node || event.kind == Kind::cordon ||
                         event.kind == Kind::uncordon || event.kind == Kind::drain ||
                         event.kind == Kind::delete_node || event.kind == Kind::slow_probes;
    if (of_node && event.target != "random" && !known_node(event.target))
      return wrong(at + "there is no node \"" + event.target + "\"");
    if (of_node && nodes.empty()) return wrong(at + "there are no nodes");
    if ((event.kind == Kind::kill_zone || event.kind == Kind::partition_zone) &&
        !zones.contains(event.target))
      return wrong(at + "no node is in a zone \"" + event.target + "\"");
    const bool step = event.kind == Kind::step_clock;
    if (step && ((event.target == "random" && !nodes.empty()) || known_node(event.target) ||
                 (peers == 1 && event.target == "control"))) {
      continue;
    }
    const bool of_peer = event.kind == Kind::kill_peer || event.kind == Kind::partition_peer ||
                         event.kind == Kind::slow_disk || event.kind == Kind::hand_over || step;
    if (!of_peer) continue;
    if (step && peers == 1)
      return wrong(at + "there is no machine \"" + event.target + "\"; they are the nodes, and control");
    if (peers == 1) return wrong(at + "one peer has nobody to take over from it; say peers: 3");
    const std::string& peer = event.target;
    const bool known = peer.size() == 1 && peer[0] >= 'a' && peer[0] < static_cast<char>('a' + peers);
    if (event.kind != Kind::hand_over && peer != "leader" && (peer != "random" || step) && !known)
      return wrong(at + "there is no peer \"" + peer + "\"; they are a, b, c..., leader, random");
  }
  return {};
}

}  // namespace orchestra
