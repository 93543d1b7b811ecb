// orchestra logs: lines of one container or of many, merged by the time at which they were written.
//
// Of a running cluster through its API, of a stopped one from the files in its data folder.
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <ctime>
#include <mutex>
#include <thread>

#include "api/meta.hpp"
#include "base/json.hpp"
#include "examples/cli/cli.hpp"
#include "logs/cri_log.hpp"
#include "orchestra/env.hpp"
#include "orchestra/pod_client.hpp"
#include "orchestra/remote_client.hpp"
#include "orchestra/selector.hpp"

namespace orchestra::cli {

namespace {

using namespace std::chrono_literals;

constexpr const char* kHelp = R"(usage: orchestra logs [POD | KIND/NAME] [flags]

Prints what the containers of a pod wrote, or of all pods of a Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or
Service, or of all that a selector names. Several are merged by time.

  -n, --namespace NS       default: default
  -l, --selector LABELS    pods by labels: app=web,tier!=cache
  -c, --container NAME     only this container; default: all of the pod
  -f, --follow             goes on until interrupted, or until the containers have ended
      --previous           of the container before its last restart
      --since TIME         from here on: 90s, 10m, 2h, 1d ago, or an RFC 3339 time
      --until TIME         up to here
      --tail N             the last N lines of each container
      --grep TEXT          lines that hold these words
      --timestamps         the time of writing before each line
      --prefix             [NAMESPACE/POD/CONTAINER] before each line; default where there are several
      --json               {"time","namespace","pod","container","line"} for each line
      --kubeconfig FILE    the cluster; default $KUBECONFIG, then ~/.kube/config
      --data DIR           the cluster of this data folder; if it does not run, its files are read
)";

constexpr std::size_t kStreamsMax = 256;
constexpr Duration kWait = 30s, kProbe = 3s;

struct Wanted {
  std::string ns, target, selector, container, grep;
  LogOptions options;
  std::int64_t until_ns = 0;  ///< 0: no end
  bool timestamps = false, prefix = false, json = false;
};

struct Source {
  std::string ns, pod, container;
  std::shared_ptr<ByteStream> stream;
};

Error bad(const std::string& what) { return Error(Error::invalid, "logs", what); }

/// "10m" ago or an RFC 3339 time, as nanoseconds since 1970.
Result<std::int64_t> moment(const std::string& flag, const std::string& text) {
  if (const auto time = logs::parse_time(text)) return *time;
  std::int64_t number = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const std::int64_t seconds = unit == "s"   ? 1
                               : unit == "m" ? 60
                               : unit == "h" ? 3600
                               : unit == "d" ? 86400
                                             : 0;
  if (problem != std::errc() || seconds == 0 || number < 0 || number > 1'000'000'000 / seconds)
    return bad("--" + flag + " " + text + " is neither a duration (90s, 10m, 2h, 1d) nor an RFC 3339 time");
  return (std::time(nullptr) - number * seconds) * std::int64_t{1'000'000'000};
}

Result<Wanted> wanted_of(const Flags& flags) {
  Wanted out;
  if (!flags.problem.empty()) return bad(flags.problem);
  if (flags.words.size() > 1) return bad("one pod or KIND/NAME at a time; see --selector");
  out.target = flags.words.empty() ? "" : flags.words[0];
  out.selector = flags.get("selector");
  if (out.target.empty() == out.selector.empty())
    return bad("needs a pod, KIND/NAME, or --selector (one of them)");
  out.ns = flags.get("namespace", "default");
  out.container = flags.get("container");
  out.grep = flags.get("grep");
  out.timestamps = flags.has("timestamps");
  out.prefix = flags.has("prefix");
  out.json = flags.has("json");
  out.options.follow = flags.has("follow");
  out.options.previous = flags.has("previous");
  out.options.timestamps = true;  // merging needs them
  if (flags.has("since")) {
    ORC_ASSIGN(const std::int64_t since, moment("since", flags.get("since")));
    out.options.since_time = api::format_time(since);
  }
  if (flags.has("until")) {
    ORC_ASSIGN(out.until_ns, moment("until", flags.get("until")));
  }
  if (flags.has("tail")) {
    const std::string text = flags.get("tail");
    std::int64_t lines = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), lines);
    if (problem != std::errc() || end != text.data() + text.size() || lines < 0)
      return bad("--tail " + text + " is not a number of lines");
    out.options.tail_lines = lines;
  }
  return out;
}

// ---- a running cluster ----

/// The selector of a workload or Service, as text.
Result<std::string> selector_of(const Client& client, const std::string& ns, const std::string& kind,
                                const std::string& name) {
  struct Row {
    std::vector<const char*> words;
    const char *version, *resource;
  };
  static const std::vector<Row> kRows = {{{"deployment", "deployments", "deploy"}, "apps/v1", "deployments"},
                                         {{"statefulset", "statefulsets", "sts"}, "apps/v1", "statefulsets"},
                                         {{"daemonset", "daemonsets", "ds"}, "apps/v1", "daemonsets"},
                                         {{"replicaset", "replicasets", "rs"}, "apps/v1", "replicasets"},
                                         {{"job", "jobs"}, "batch/v1", "jobs"},
                                         {{"service", "services", "svc"}, "v1", "services"}};
  for (const Row& row : kRows) {
    if (std::find(row.words.begin(), row.words.end(), kind) == row.words.end()) continue;
    ORC_ASSIGN(const Object object, client.get(row.version, row.resource, name, ns).wait(kWait));
    ORC_ASSIGN(const json::value document, parse_json(object.json()));
    const json::object* selector = object_at(document, "/spec/selector");
    if (selector == nullptr)
      return Error(Error::not_found, "logs", kind + "/" + name + " in namespace " + ns + " selects no pods");
    json::object as_selector = *selector;
    if (std::string_view(row.resource) == "services") as_selector = {{"matchLabels", *selector}};
    ORC_ASSIGN(const Selector parsed, Selector::from_label_selector(to_json(as_selector)));
    return parsed.to_string();
  }
  return bad("\"" + kind +
             "\" is none of deployment, statefulset, daemonset, replicaset, job, service; pods are named "
             "without kind");
}

Result<std::vector<Object>> pods_of(const Client& client, const Wanted& wanted) {
  std::string target = wanted.target, selector = wanted.selector;
  if (target.starts_with("pod/") || target.starts_with("pods/")) target = target.substr(target.find('/') + 1);
  if (const auto slash = target.find('/'); slash != std::string::npos) {
    ORC_ASSIGN(selector, selector_of(client, wanted.ns, target.substr(0, slash), target.substr(slash + 1)));
  }
  if (selector.empty()) {
    ORC_ASSIGN(Object pod, client.get("v1", "pods", target, wanted.ns).wait(kWait));
    return std::vector<Object>{std::move(pod)};
  }
  ListOptions options;
  options.ns = wanted.ns;
  options.labels = selector;
  ORC_ASSIGN(ObjectList pods, client.list("v1", "pods", options).wait(kWait));
  if (pods.items.empty())
    return Error(Error::not_found, "logs",
                 "no pod in namespace " + wanted.ns + " has the labels " + selector);
  return std::move(pods.items);
}

Result<std::vector<std::string>> containers_of(const Object& pod, const std::string& only) {
  ORC_ASSIGN(const json::value document, parse_json(pod.json()));
  std::vector<std::string> out;
  for (const char* list : {"/spec/initContainers", "/spec/containers", "/spec/ephemeralContainers"}) {
    const json::array* all = array_at(document, list);
    if (all == nullptr) continue;
    for (const json::value& one : *all) {
      const std::string name = string_at(one, "/name");
      if (only.empty() || name == only) out.push_back(name);
    }
  }
  return out;
}

Result<std::vector<Source>> live_sources(const Client& client, const Wanted& wanted) {
  ORC_ASSIGN(const std::vector<Object> pods, pods_of(client, wanted));
  const PodClient streams(client);
  std::vector<Source> out;
  std::optional<Error> problem;
  for (const Object& pod : pods) {
    ORC_ASSIGN(const auto containers, containers_of(pod, wanted.container));
    for (const std::string& container : containers) {
      if (out.size() >= kStreamsMax)
        return Error(Error::too_large, "logs",
                     "more than " + std::to_string(kStreamsMax) + " containers; name fewer");
      auto stream = streams.log({pod.ns(), pod.name(), container}, wanted.options).wait(kWait);
      if (stream) {
        out.push_back({pod.ns(), pod.name(), container, std::move(*stream)});
        continue;
      }
      // One that waits or never ran keeps nobody from reading the others.
      if (problem) std::fprintf(stderr, "orchestra: %s\n", problem->message().c_str());
      problem = stream.error();
    }
  }
  if (!problem && out.empty())
    return Error(Error::not_found, "logs",
                 "no container \"" + wanted.container + "\" in " + std::to_string(pods.size()) + " pod(s)");
  if (problem && out.empty()) return *problem;
  if (problem) std::fprintf(stderr, "orchestra: %s\n", problem->message().c_str());
  return out;
}

// ---- the files of a stopped one ----

std::vector<std::string> names_in(const std::string& folder) {
  auto names = real_disk().list(folder);
  return names ? std::move(*names) : std::vector<std::string>();
}

/// FOLDER/N.log of the highest N, or of the one before; empty: there is none.
std::string newest_attempt(const std::string& folder, bool previous) {
  std::vector<int> attempts;
  for (const std::string& name : names_in(folder)) {
    int number = 0;
    const auto [end, problem] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (problem == std::errc() && std::string_view(end) == ".log") attempts.push_back(number);
  }
  std::sort(attempts.begin(), attempts.end());
  if (attempts.size() < (previous ? 2u : 1u)) return {};
  return folder + "/" + std::to_string(attempts[attempts.size() - (previous ? 2 : 1)]) + ".log";
}

Result<std::vector<Source>> kept_sources(Engine& engine, const std::string& data, const Wanted& wanted) {
  if (!wanted.selector.empty() || wanted.target.find('/') != std::string::npos)
    return Error(
        Error::unavailable, "logs",
        "no cluster runs on " + data + "; its files know pods by name only, not by labels or owners");
  const std::string root = data + "/pods-log";
  std::vector<Source> out;
  for (const std::string& folder : names_in(root)) {  // NAMESPACE_POD_UID
    const auto first = folder.find('_'), last = folder.rfind('_');
    if (first == std::string::npos || first == last) continue;
    if (folder.substr(0, first) != wanted.ns || folder.substr(first + 1, last - first - 1) != wanted.target)
      continue;
    for (const std::string& container : names_in(root + "/" + folder)) {
      if (!wanted.container.empty() && wanted.container != container) continue;
      const std::string live = newest_attempt(root + "/" + folder + "/" + container, wanted.options.previous);
      if (live.empty()) continue;
      logs::LogStreamOptions options;
      options.live_path = live;
      options.filter.timestamps = true;
      options.tail_lines = wanted.options.tail_lines;
      if (!wanted.options.since_time.empty())
        options.filter.since_ns = logs::parse_time(wanted.options.since_time).value_or(0);
      ORC_ASSIGN(auto stream, logs::open_log_stream(engine, std::move(options)));
      out.push_back({wanted.ns, wanted.target, container, std::move(stream)});
    }
  }
  if (out.empty())
    return Error(Error::not_found, "logs",
                 "no log of pod " + wanted.ns + "/" + wanted.target + " under " + root);
  return out;
}

// ---- lines ----

struct Line {
  std::int64_t at_ns = 0;
  std::string time, text;
  bool whole = true;  ///< ended by a line break
};

/// Lines of one source, in order. Blocks.
class LineReader {
 public:
  explicit LineReader(Source source) : source_(std::move(source)) {}
  const Source& source() const { return source_; }
  /// nullopt at the end.
  Result<std::optional<Line>> next() {
    while (true) {
      const auto end = rest_.find('\n');
      if (end != std::string::npos || (ended_ && !rest_.empty())) {
        Line line = line_of(rest_.substr(0, end));
        line.whole = end != std::string::npos;
        rest_.erase(0, line.whole ? end + 1 : rest_.size());
        return std::optional(std::move(line));
      }
      if (ended_) return std::optional<Line>();
      ORC_ASSIGN(const std::string chunk, source_.stream->read(64 << 10).wait(24h * 3650));
      ended_ = chunk.empty();
      rest_ += chunk;
    }
  }

 private:
  static Line line_of(const std::string& text) {
    const auto blank = text.find(' ');
    Line out;
    out.time = text.substr(0, blank);
    out.at_ns = logs::parse_time(out.time).value_or(0);
    out.text = blank == std::string::npos ? "" : text.substr(blank + 1);
    return out;
  }
  Source source_;
  std::string rest_;
  bool ended_ = false;
};

void print(const Wanted& wanted, const Source& from, const Line& line) {
  if (!wanted.grep.empty() && line.text.find(wanted.grep) == std::string::npos) return;
  std::string out;
  if (wanted.json) {
    const json::object object{{"time", line.time},
                              {"namespace", from.ns},
                              {"pod", from.pod},
                              {"container", from.container},
                              {"line", line.text}};
    out = to_json(object) + "\n";
  } else {
    if (wanted.prefix) out += "[" + from.ns + "/" + from.pod + "/" + from.container + "] ";
    if (wanted.timestamps) out += line.time + " ";
    out += line.text;
    if (line.whole) out += "\n";
  }
  std::fwrite(out.data(), 1, out.size(), stdout);
}

bool over(const Wanted& wanted, const Line& line) {
  return wanted.until_ns != 0 && line.at_ns > wanted.until_ns;
}

/// What is there, merged: the oldest first line of all is the next one.
Result<void> print_merged(const Wanted& wanted, std::vector<LineReader>& readers) {
  std::vector<std::optional<Line>> heads(readers.size());
  for (std::size_t at = 0; at < readers.size(); ++at) {
    ORC_ASSIGN(heads[at], readers[at].next());
  }
  while (true) {
    std::size_t oldest = heads.size();
    for (std::size_t at = 0; at < heads.size(); ++at) {
      if (heads[at] && (oldest == heads.size() || heads[at]->at_ns < heads[oldest]->at_ns)) oldest = at;
    }
    if (oldest == heads.size()) return {};
    if (over(wanted, *heads[oldest])) {
      heads[oldest].reset();  // all that follows there is younger
      continue;
    }
    print(wanted, readers[oldest].source(), *heads[oldest]);
    ORC_ASSIGN(heads[oldest], readers[oldest].next());
  }
}

/// As they come, each line whole.
Result<void> print_as_they_come(const Wanted& wanted, std::vector<LineReader>& readers) {
  std::mutex mutex;
  std::optional<Error> problem;
  std::vector<std::thread> threads;
  for (LineReader& reader : readers) {
    threads.emplace_back([&mutex, &problem, &wanted, &reader] {
      while (true) {
        auto line = reader.next();
        std::lock_guard lock(mutex);
        if (!line) problem = line.error();
        if (!line || !*line || over(wanted, **line)) return;
        print(wanted, reader.source(), **line);
        std::fflush(stdout);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (problem) return *problem;
  return {};
}

/// The cluster of a data folder where it runs: nullopt where it does not.
Result<std::optional<Client>> client_of(Engine& engine, const Flags& flags) {
  const std::string data = flags.get("data");
  const std::string path =
      data.empty() ? flags.get("kubeconfig", default_kubeconfig()) : data + "/admin.kubeconfig";
  auto client = RemoteClient::from_kubeconfig(engine, path);
  if (data.empty() && !client) return client.error();
  if (data.empty()) return std::optional(*client);
  if (client && client->list("v1", "namespaces", {.limit = 1}).wait(kProbe)) return std::optional(*client);
  if (access((data + "/pods-log").c_str(), R_OK | X_OK) != 0)
    return Error(Error::not_found, "logs",
                 "no cluster runs on " + data + ", and it holds no logs that may be read");
  return std::optional<Client>();
}

Result<void> show(const Flags& flags) {
  ORC_ASSIGN(Wanted wanted, wanted_of(flags));
  Engine engine;
  ORC_ASSIGN(const auto client, client_of(engine, flags));
  std::vector<Source> sources;
  if (client) {
    ORC_ASSIGN(sources, live_sources(*client, wanted));
  } else {
    ORC_ASSIGN(sources, kept_sources(engine, flags.get("data"), wanted));
  }
  if (sources.size() > 1) wanted.prefix = true;
  std::vector<LineReader> readers;
  for (Source& source : sources) readers.emplace_back(std::move(source));
  // Files of a stopped cluster do not grow.
  return wanted.options.follow && client ? print_as_they_come(wanted, readers)
                                         : print_merged(wanted, readers);
}

}  // namespace

int run_logs(const std::vector<std::string>& args) {
  static const std::map<std::string, std::string> kShort = {
      {"-n", "--namespace"}, {"-l", "--selector"}, {"-c", "--container"}, {"-f", "--follow"}};
  std::vector<std::string> full;
  for (const std::string& arg : args) full.push_back(kShort.count(arg) != 0 ? kShort.at(arg) : arg);
  const Flags flags = Flags::parse(
      full, {"namespace", "selector", "container", "since", "until", "tail", "grep", "kubeconfig", "data"},
      {"follow", "previous", "timestamps", "prefix", "json", "help"});
  if (flags.has("help")) return std::fputs(kHelp, stdout) < 0 ? 1 : 0;
  const auto done = show(flags);
  return done ? 0 : report(done.error());
}

}  // namespace orchestra::cli
