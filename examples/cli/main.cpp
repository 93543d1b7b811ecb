// The orchestra program: thin over the library's classes.
#include <malloc.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>

#include "base/version.hpp"
#include "cluster/node.hpp"
#include "examples/cli/cli.hpp"
#include "image/command.hpp"
#include "orchestra/cluster.hpp"
#include "orchestra/runtime.hpp"
#include "orchestra/store_command.hpp"
#include "sim/command.hpp"

namespace orchestra::cli {

namespace {
constexpr const char* kHelp =
    R"(orchestra: containers, a Kubernetes-compatible API and everything between, in one process

usage: orchestra COMMAND [flags]

  up        run a cluster of one node (API, scheduler, controllers, node, DNS, ingress)
  join      run a node of a cluster whose control plane is elsewhere
  down      end its pods and take everything of it off the machine
  doctor    what this machine can do, with evidence and remedy
  explain   why a pod has no node, node by node, and what would be if there were others
  logs      what containers wrote, of one pod or of many, merged by time; also of a stopped data folder
  image     pull, import, export, build, ls, rm, inspect images
  dns       a DNS server with zone files, a cluster's names, upstream servers; questions to others
  sim       a whole cluster in virtual time: node loss, load, upgrades, from a scenario file
  store     put, get, watch, snapshot the replicated store
  oci       an OCI container runtime: create, start, state, kill, delete, run, exec, list ...
  version   version and commit

`orchestra COMMAND --help` tells more. kubectl works on the cluster: export KUBECONFIG=DIR/admin.kubeconfig
)";
std::atomic<bool> stop_store{false};

/// A server and a watch end in order on SIGTERM and SIGINT; the library itself installs no handlers.
int run_store(const std::vector<std::string>& args) {
  StoreCommandOptions options;
  if (!args.empty() && (args[0] == "serve" || args[0] == "watch")) {
    options.stop = &stop_store;
    struct sigaction action {};
    action.sa_handler = [](int) { stop_store = true; };
    sigaction(SIGTERM, &action, nullptr);
    sigaction(SIGINT, &action, nullptr);
  }
  signal(SIGPIPE, SIG_IGN);
  return run_store_command(args, stdout, stderr, options);
}
}  // namespace

std::string default_kubeconfig() {
  if (const char* path = std::getenv("KUBECONFIG"); path != nullptr && *path != 0) return path;
  const char* home = std::getenv("HOME");
  return std::string(home == nullptr ? "/root" : home) + "/.kube/config";
}

std::vector<std::string> split_commas(const std::string& text) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    if (comma > at) out.push_back(text.substr(at, comma - at));
    at = comma + 1;
  }
  return out;
}

Flags Flags::parse(const std::vector<std::string>& args, const std::set<std::string>& with_value,
                   const std::set<std::string>& switches) {
  Flags out;
  for (std::size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i];
    if (arg == "-h") {
      out.values["help"].emplace_back();
      continue;
    }
    if (arg.rfind("--", 0) != 0) {
      out.words.push_back(arg);
      continue;
    }
    const std::size_t equals = arg.find('=');
    const std::string name = arg.substr(2, equals == std::string::npos ? std::string::npos : equals - 2);
    if (switches.count(name) != 0 && equals == std::string::npos) {
      out.values[name].emplace_back();
    } else if (with_value.count(name) == 0) {
      out.problem = "unknown flag --" + name;
      return out;
    } else if (equals != std::string::npos) {
      out.values[name].push_back(arg.substr(equals + 1));
    } else if (i + 1 < args.size()) {
      out.values[name].push_back(args[++i]);
    } else {
      out.problem = "flag --" + name + " needs a value";
      return out;
    }
  }
  return out;
}

int main_of(const std::vector<std::string>& args) {
  if (args.empty()) {
    std::fputs(kHelp, stderr);
    return 2;
  }
  const std::string& command = args[0];
  const std::vector<std::string> rest(args.begin() + 1, args.end());
  if (command == "help" || command == "--help" || command == "-h")
    return std::fputs(kHelp, stdout) < 0 ? 1 : 0;
  if (command == "version" || command == "--version") {
    std::printf("orchestra %s (%s)\n", kVersion, kCommit);
    return 0;
  }
  if (command == "up") return run_up(rest);
  if (command == "join") return run_join(rest);
  if (command == "down") return run_down(rest);
  if (command == "doctor") return run_doctor(rest);
  if (command == "explain") return run_explain(rest);
  if (command == "dns") return run_dns(rest);
  if (command == "logs") return run_logs(rest);
  if (command == "image") {
    ImageCommandSettings settings;
    settings.store = default_data_dir() + "/images";
    settings.make_steps = [](Engine& engine, const std::string& isolation) {
      return cluster::make_image_steps(engine, isolation);
    };
    return run_image_command(rest, stdout, stderr, settings);
  }
  if (command == "sim") return run_sim_command(rest, stdout, stderr);
  if (command == "store") return run_store(rest);
  if (command == "oci") return run_oci_command(rest, 0, 1, 2);
  return usage_error("there is no command \"" + command + "\"; see orchestra --help");
}

}  // namespace orchestra::cli

int main(int argc, char** argv) {
  // An arena for each core, not eight: what threads that come and go leave free in theirs is 20 MB else.
  mallopt(M_ARENA_MAX, static_cast<int>(std::max(2u, std::thread::hardware_concurrency())));
  const std::string_view program = argc > 0 ? argv[0] : "";
  const std::size_t slash = program.rfind('/');
  if (program.substr(slash == std::string_view::npos ? 0 : slash + 1) == "orchestra-cni")
    return orchestra::cli::run_cni_plugin();
  return orchestra::cli::main_of({argv + 1, argv + argc});
}
