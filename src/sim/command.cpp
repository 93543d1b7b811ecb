#include "sim/command.hpp"

#include <dirent.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>

#include "base/exit_status.hpp"
#include "base/fd.hpp"
#include "base/json.hpp"
#include "orchestra/remote_client.hpp"
#include "orchestra/what_if.hpp"
#include "sim/shrink.hpp"

namespace orchestra {
namespace {

constexpr const char* kHelp =
    R"(orchestra sim: a whole cluster in virtual time, from one seed

usage: orchestra sim FILE [flags]            what the scenario file says (docs/simulation.md)
       orchestra sim --nodes N --manifests PATH.. [--for 24h] [flags]
       orchestra sim export --kubeconfig F   nodes and objects of a live cluster, as YAML
       orchestra sim record --kubeconfig F --for 1h > LOG    what happens there meanwhile
       orchestra sim [FILE] --from-log LOG   the same again, in virtual time
       orchestra sim explain FILE [NAMESPACE/POD] --at T    at this moment of it: node by node, why a pod does
                                             (not) go there; without POD: where the pods that wait would go

  --from-kubeconfig F    nodes and objects of this cluster; FILE says what happens to them
  --from-objects FILE    the same from a file (of `orchestra sim export`, or kubectl get -o yaml)
  --seed N               instead of the file's
  --for DURATION         instead of the file's duration
  --report KIND          text (default), csv, json or svg on standard output
  --out DIR              all four as DIR/report.txt .csv .json .svg
  --shrink               what does not hold: leaves events out as long as the same breaks, and reports on those
                         that are needed

 of explain:
  --at TIME              since the beginning; default: the end
  --without NODE         as if this node were not there (may be repeated)
  --add NODE=N           as if there were N more nodes like NODE (may be repeated)

Exit status 0: every expectation held and no invariant broke (explain: there is a node for all that was asked
about); 1: else; the report names it.
)";
constexpr std::size_t kFileMax = 64u << 20;
constexpr std::size_t kPodsShown = 100;

struct Arguments {
  std::map<std::string, std::vector<std::string>> values;
  std::vector<std::string> words;
  std::string problem;
  std::vector<std::string> all(const std::string& name) const {
    const auto found = values.find(name);
    return found == values.end() ? std::vector<std::string>() : found->second;
  }
  std::string last(const std::string& name) const {
    const auto found = values.find(name);
    return found == values.end() ? std::string() : found->second.back();
  }
};

Arguments parse(const std::vector<std::string>& args) {
  static const std::set<std::string> kFlags{
      "from-kubeconfig", "from-objects", "from-log",   "seed", "for",     "report", "out",
      "nodes",           "manifests",    "kubeconfig", "at",   "without", "add"};
  Arguments out;
  for (std::size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i];
    if (arg.rfind("--", 0) != 0) {
      out.words.push_back(arg);
      continue;
    }
    if (arg == "--shrink") {
      out.values["shrink"].push_back("true");
      continue;
    }
    const auto equals = arg.find('=');
    const std::string name = arg.substr(2, equals == std::string::npos ? equals : equals - 2);
    if (!kFlags.contains(name)) return out.problem = "unknown flag --" + name, out;
    if (equals != std::string::npos) {
      out.values[name].push_back(arg.substr(equals + 1));
    } else if (i + 1 < args.size()) {
      out.values[name].push_back(args[++i]);
    } else {
      return out.problem = "flag --" + name + " needs a value", out;
    }
  }
  return out;
}

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? std::string() : path.substr(0, slash + 1);
}

Result<std::string> read_text(const std::string& path) {
  auto text = read_file(path, kFileMax);
  if (!text) return text.error().with_context("reading " + path);
  return text;
}

// The files that a --manifests names: itself, or what a folder holds, by name.
Result<std::vector<std::string>> manifests_in(const std::string& path) {
  DIR* folder = ::opendir(path.c_str());
  if (folder == nullptr) return std::vector<std::string>{path};
  std::vector<std::string> files;
  while (const dirent* entry = ::readdir(folder)) {
    const std::string name = entry->d_name;
    const auto dot = name.rfind('.');
    if (dot == std::string::npos || dot == 0) continue;
    const std::string ending = name.substr(dot);
    if (ending == ".yaml" || ending == ".yml" || ending == ".json") files.push_back(path + "/" + name);
  }
  ::closedir(folder);
  std::sort(files.begin(), files.end());
  return files;
}

Result<void> add_objects(const Arguments& args, SimScenario& scenario) {
  const std::string kubeconfig = args.last("from-kubeconfig");
  if (!kubeconfig.empty()) {
    Engine engine;
    ORC_ASSIGN(const Client client, RemoteClient::from_kubeconfig(engine, kubeconfig));
    ORC_TRY(import_cluster(client, scenario));
  }
  if (const std::string log = args.last("from-log"); !log.empty()) {
    ORC_ASSIGN(const std::string text, read_text(log));
    auto imported = import_log(text, scenario);
    if (!imported) return imported.error().with_context(log);
  }
  const std::string objects = args.last("from-objects");
  if (objects.empty()) return {};
  ORC_ASSIGN(const std::string text, read_text(objects));
  auto parsed = Object::many_from_yaml(text);
  if (!parsed) return parsed.error().with_context(objects);
  std::vector<Object> all;
  for (const Object& each : *parsed) {
    const auto items = each.kind() == "List" ? each.get("/items") : std::nullopt;
    if (!items) {
      all.push_back(each);
      continue;
    }
    ORC_ASSIGN(const json::value list, parse_json(*items));
    for (const json::value& item : list.as_array()) {
      ORC_ASSIGN(Object object, Object::from_json(to_json(item)));
      all.push_back(std::move(object));
    }
  }
  return import_objects(all, scenario);
}

Result<SimScenario> scenario_of(const Arguments& args) {
  std::string text;
  std::string file = "the command line";
  std::string folder;
  if (!args.words.empty()) {
    file = args.words[0];
    folder = folder_of(file);
    ORC_ASSIGN(text, read_text(file));
  }
  const auto number = [&](const std::string& name) -> Result<std::optional<std::uint64_t>> {
    const std::string given = args.last(name);
    if (given.empty()) return std::optional<std::uint64_t>();
    std::uint64_t value = 0;
    const auto [end, failed] = std::from_chars(given.data(), given.data() + given.size(), value);
    if (failed == std::errc{} && end == given.data() + given.size()) return std::optional(value);
    return Error(Error::invalid, "sim", "--" + name + " " + given + ": not a number");
  };
  ORC_ASSIGN(const auto seed, number("seed"));
  ORC_ASSIGN(const auto nodes, number("nodes"));
  SimScenario base;
  ORC_TRY(add_objects(args, base));
  if (text.empty() && !base.nodes.empty() && !nodes) {
    text = "name: the cluster again\n";
  } else if (text.empty()) {
    text = "name: " + std::to_string(nodes.value_or(3)) + " nodes\n";
    text += "nodes: [{count: " + std::to_string(nodes.value_or(3)) + ", zones: [a, b, c]}]\n";
  }
  const auto read = [folder](const std::string& path) {
    return read_text(path.empty() || path[0] == '/' ? path : folder + path);
  };
  ORC_ASSIGN(SimScenario scenario, SimScenario::from_yaml(text, file, read, &base));
  for (const auto& path : args.all("manifests")) {
    ORC_ASSIGN(const std::vector<std::string> files, manifests_in(path));
    for (const std::string& each : files) {
      ORC_ASSIGN(std::string manifest, read_text(each));
      scenario.objects.push_back(std::move(manifest));
    }
  }
  if (seed) scenario.seed = *seed;
  if (const std::string time = args.last("for"); !time.empty()) {
    ORC_ASSIGN(scenario.duration, parse_sim_duration(time));
  }
  return scenario;
}

Result<void> write_all(const SimReport& report, const std::string& folder) {
  ORC_TRY(make_directories(folder, 0755));
  ORC_TRY(write_file(folder + "/report.txt", report.text(), 0644));
  ORC_TRY(write_file(folder + "/report.csv", report.csv(), 0644));
  ORC_TRY(write_file(folder + "/report.json", report.json(), 0644));
  return write_file(folder + "/report.svg", report.svg(), 0644);
}

Result<int> export_cluster(const Arguments& args, std::FILE* out) {
  const std::string kubeconfig = args.last("kubeconfig");
  if (kubeconfig.empty()) return Error(Error::invalid, "sim", "export needs --kubeconfig FILE");
  Engine engine;
  ORC_ASSIGN(const Client client, RemoteClient::from_kubeconfig(engine, kubeconfig));
  ORC_ASSIGN(const std::vector<Object> all, list_cluster(client));
  for (const Object& object : all) std::fprintf(out, "---\n%s", object.yaml().c_str());
  return 0;
}

Result<int> record(const Arguments& args, std::FILE* out) {
  const std::string kubeconfig = args.last("kubeconfig");
  const std::string time = args.last("for");
  if (kubeconfig.empty() || time.empty())
    return Error(Error::invalid, "sim", "record needs --kubeconfig FILE and --for DURATION");
  ORC_ASSIGN(const Duration length, parse_sim_duration(time));
  Engine engine;
  ORC_ASSIGN(const Client client, RemoteClient::from_kubeconfig(engine, kubeconfig));
  ORC_TRY(record_cluster(engine, client, length, [out](const std::string& line) {
    std::fprintf(out, "%s\n", line.c_str());
    std::fflush(out);
  }));
  return 0;
}

SimReport shrink(SimScenario scenario, SimReport report, std::FILE* err) {
  const std::size_t before = scenario.events.size();
  ShrunkScenario small = shrink_scenario(std::move(scenario), std::move(report));
  std::fprintf(err, "orchestra: sim: %zu of %zu events are needed (%zu runs%s)\n",
               small.scenario.events.size(), before, small.runs,
               small.smallest ? "" : "; more of them would leave out more");
  for (const SimEvent& event : small.scenario.events)
    std::fprintf(err, "orchestra: sim: needed: %s\n",
                 event.place.empty() ? "an event of the recorded log" : event.place.c_str());
  return std::move(small.report);
}

Result<int> simulate(const Arguments& args, std::FILE* out, std::FILE* err) {
  const std::string kind = args.last("report").empty() ? "text" : args.last("report");
  if (kind != "text" && kind != "csv" && kind != "json" && kind != "svg")
    return Error(Error::invalid, "sim", "--report " + kind + ": must be text, csv, json or svg");
  ORC_ASSIGN(SimScenario scenario, scenario_of(args));
  SimReport report = SimCluster(scenario).run();
  if (!report.passed() && !args.last("shrink").empty()) report = shrink(std::move(scenario), report, err);
  const std::string folder = args.last("out");
  if (!folder.empty()) ORC_TRY(write_all(report, folder));
  const std::string text = kind == "text"   ? report.text()
                           : kind == "csv"  ? report.csv()
                           : kind == "json" ? report.json()
                                            : report.svg();
  std::fwrite(text.data(), 1, text.size(), out);
  if (report.passed()) return 0;
  std::fprintf(err, "orchestra: sim: %zu expectations or invariants did not hold; replay with --seed %llu\n",
               report.failures.size() + report.violations.size(),
               static_cast<unsigned long long>(report.seed));
  return 1;
}

// The objects of a simulated cluster, now.
Result<ClusterQuestion> question_about(SimCluster& cluster, const Arguments& args) {
  ClusterQuestion question;
  question.without = args.all("without");
  question.add = args.all("add");
  const auto read = [&](const char* version, const char* resource,
                        std::vector<Object>& into) -> Result<void> {
    ORC_ASSIGN(const ObjectList all, cluster.await(cluster.client().list(version, resource)));
    into.insert(into.end(), all.items.begin(), all.items.end());
    return {};
  };
  ORC_TRY(read("v1", "nodes", question.nodes));
  ORC_TRY(read("v1", "pods", question.pods));
  for (const auto& [version, resource] :
       {std::pair("v1", "namespaces"), std::pair("v1", "persistentvolumes"),
        std::pair("v1", "persistentvolumeclaims"), std::pair("storage.k8s.io/v1", "storageclasses"),
        std::pair("storage.k8s.io/v1", "csinodes"), std::pair("storage.k8s.io/v1", "csidrivers"),
        std::pair("storage.k8s.io/v1", "csistoragecapacities")}) {
    ORC_TRY(read(version, resource, question.others));
  }
  return question;
}

/// `orchestra sim explain FILE [POD]`
Result<int> explain_moment(Arguments args, std::FILE* out) {
  args.words.erase(args.words.begin());
  std::string pod;
  if (args.words.size() == 2) {
    pod = args.words.back();
    args.words.pop_back();
  }
  if (args.words.size() != 1)
    return Error(Error::invalid, "sim", "explain needs a scenario file, then at most one NAMESPACE/POD");
  ORC_ASSIGN(SimScenario scenario, scenario_of(args));
  Duration at = scenario.duration;
  if (const std::string given = args.last("at"); !given.empty()) {
    ORC_ASSIGN(at, parse_sim_duration(given));
  }
  if (at > scenario.duration)
    return Error(Error::invalid, "sim", "--at " + args.last("at") + " is after the end of the simulation");
  SimCluster cluster(std::move(scenario));
  ORC_TRY(cluster.start());
  cluster.run_for(at);
  ORC_ASSIGN(const ClusterQuestion question, question_about(cluster, args));
  if (!pod.empty()) {
    const auto slash = pod.find('/');
    const std::string ns = slash == std::string::npos ? "default" : pod.substr(0, slash);
    ORC_ASSIGN(const PodAnswer answer, explain_pod(question, ns, pod.substr(slash + 1)));
    std::fputs(answer.text(true, true).c_str(), out);
    return answer.goes_to.empty() ? 1 : 0;
  }
  ORC_ASSIGN(const WhatIf::Answer answer, place_waiting(question));
  std::fprintf(out, "%zu pods wait for a node or lost it: %zu would have one, %zu none\n",
               answer.placed.size() + answer.refused.size(), answer.placed.size(), answer.refused.size());
  std::size_t lines = 0;
  for (const auto& [name, node] : answer.placed) {
    if (++lines <= kPodsShown) std::fprintf(out, "%s would go to %s\n", name.c_str(), node.c_str());
  }
  for (const auto& [name, why] : answer.refused) {
    if (++lines <= 2 * kPodsShown) std::fprintf(out, "%s: %s\n", name.c_str(), why.c_str());
  }
  return answer.refused.empty() ? 0 : 1;
}

}  // namespace

int run_sim_command(const std::vector<std::string>& args, std::FILE* out, std::FILE* err) {
  if (args.empty() || args[0] == "--help" || args[0] == "-h" || args[0] == "help") {
    std::fputs(kHelp, args.empty() ? err : out);
    return args.empty() ? 2 : 0;
  }
  Arguments parsed = parse(args);
  const bool exports = !parsed.words.empty() && parsed.words[0] == "export";
  const bool explains = !parsed.words.empty() && parsed.words[0] == "explain";
  if (parsed.problem.empty() && !explains && parsed.words.size() > 1)
    parsed.problem = "one scenario file at a time";
  if (!parsed.problem.empty()) {
    std::fprintf(err, "orchestra: sim: %s\n", parsed.problem.c_str());
    return 2;
  }
  const bool records = !parsed.words.empty() && parsed.words[0] == "record";
  const Result<int> done = exports    ? export_cluster(parsed, out)
                           : records  ? record(parsed, out)
                           : explains ? explain_moment(parsed, out)
                                      : simulate(parsed, out, err);
  if (done) return *done;
  std::fprintf(err, "orchestra: sim: %s\n", done.error().to_string().c_str());
  return exit_status(done.error());
}

}  // namespace orchestra
