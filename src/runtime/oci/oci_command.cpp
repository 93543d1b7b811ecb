// `orchestra oci`: runtime-spec operations as a command line. Errors: one line on stderr, status 1.
#include "runtime/oci/oci_command.hpp"

#include <fcntl.h>
#include <regex.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <tuple>

#include "base/fd.hpp"
#include "base/json.hpp"
#include "orchestra/env.hpp"
#include "orchestra/runtime.hpp"
#include "runtime/domain.hpp"
#include "runtime/linux/labels.hpp"
#include "runtime/linux/net_device.hpp"
#include "runtime/oci/oci_process.hpp"
#include "runtime/oci/oci_terminal.hpp"
#include "runtime/oci/seccomp_cache.hpp"
#include "runtime/plan/make_plan.hpp"
#include "runtime/spec/capabilities.hpp"
#include "runtime/spec/pod_spec.hpp"
#include "runtime/wire/protocol.hpp"

namespace orchestra::runtime {
namespace {
constexpr auto kRemoveDeadline = std::chrono::seconds(10);

Result<std::string> absolute(const std::string& path) {
  char resolved[PATH_MAX];
  if (realpath(path.c_str(), resolved) == nullptr) return system_error(kDomain, "open", path, errno);
  return std::string(resolved);
}
std::string full_path(const std::string& path) {
  if (path.empty() || path[0] == '/') return path;
  char here[PATH_MAX];
  return getcwd(here, sizeof here) != nullptr ? std::string(here) + "/" + path : path;
}
std::string hook_state(OciState state, const char* status, int pid) {
  state.pid = pid;
  return state_json(state, status, false);
}
/// Cgroups::open wants a parent and a group below it.
std::pair<std::string, std::string> split_path(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return {slash == 0 ? "/" : path.substr(0, slash), path.substr(slash + 1)};
}
}  // namespace

std::string rfc3339(std::int64_t wall_ns) {
  const std::time_t seconds = wall_ns / 1'000'000'000;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[64];
  std::snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%09ldZ", utc.tm_year + 1900, utc.tm_mon + 1,
                utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, static_cast<long>(wall_ns % 1'000'000'000));
  return text;
}

OciCommand::OciCommand(OciArguments args, int input, int output, int error)
    : args_(std::move(args)),
      input_(input),
      output_(output),
      error_(error),
      root_(args_.get("root", "/run/orchestra/oci")),
      store_(root_) {}

void OciCommand::print(const std::string& text) const { (void)write_all(output_, text); }

Result<int> OciCommand::run() {
  if (args_.has("version")) {
    print("orchestra-oci version 0.1.0\nspec: " + std::string(kOciSpecVersion) + "\n");
    return 0;
  }
  if (args_.has("help") || args_.command.empty()) {
    print(oci_help());
    return args_.has("help") ? 0 : 1;
  }
  const std::string& command = args_.command;
  if (command == "create") return create(false);
  if (command == "run") return create(true);
  if (command == "start") return start();
  if (command == "state") return state();
  if (command == "list") return list();
  if (command == "ps") return ps();
  if (command == "kill") return kill_container();
  if (command == "delete") return remove();
  if (command == "exec") return exec();
  if (command == "pause") return freeze(true);
  if (command == "resume") return freeze(false);
  if (command == "update") return update();
  if (command == "events") return events();
  if (command == "features") return features();
  if (command == "spec") return spec();
  return Error(Error::invalid, kDomain, "unknown command \"" + command + "\"; see --help");
}

Result<OciState> OciCommand::load_operand() {
  if (args_.operands.empty()) return Error(Error::invalid, kDomain, args_.command + ": name a container");
  ORC_TRY(check_container_id(args_.operands.front()));
  return store_.load(args_.operands.front());
}

Result<std::shared_ptr<Cgroups>> OciCommand::cgroups_of(const OciState& state) const {
  if (state.cgroup.empty()) return std::shared_ptr<Cgroups>();
  ORC_ASSIGN(CgroupLayout layout, detect_cgroups());
  ORC_ASSIGN(auto cgroups, Cgroups::open(std::move(layout), state.cgroup_parent));
  if (!state.systemd_unit.empty()) cgroups->set_systemd_owned();
  return cgroups;
}

Result<void> OciCommand::place(OciState& state, const ContainerSpec& spec, PlanContext& context) {
  if (args_.get("cgroup-manager") == "disabled") return {};
  std::string path = spec.cgroups_path.empty() ? "/orchestra/" + state.id : spec.cgroups_path;
  if (args_.has("systemd-cgroup") || args_.get("cgroup-manager") == "systemd") {
    ORC_ASSIGN(path, start_systemd_unit(state, spec));
  }
  if (path[0] != '/') path = "/orchestra/" + path;
  std::tie(state.cgroup_parent, state.cgroup) = split_path(path);
  ORC_ASSIGN(const auto cgroups, cgroups_of(state));
  ORC_TRY(cgroups->make(state.cgroup, spec.resources));
  const auto members = cgroups->processes(state.cgroup);
  if (members && !members->empty() && state.systemd_unit.empty())
    return Error(Error::busy, kDomain, "linux.cgroupsPath: the cgroup " + path + " has processes");
  std::vector<std::string> missing, refused;
  ContainerSpec whole = spec;
  allow_default_devices(whole);
  ORC_TRY(cgroups->apply(state.cgroup, whole.resources, missing, refused));
  if (!missing.empty()) return Error(Error::unsupported, kDomain, "linux.resources: " + missing.front());
  for (const std::string& reason : refused) warn("linux.resources: " + reason);
  CgroupPlace place = cgroups->place(state.cgroup, spec.resources);
  context.cgroup_files = std::move(place.files);
  context.cgroup_unified = std::move(place.unified);
  context.cgroup_mounts = cgroups->mounts(state.cgroup);
  return {};
}

Result<std::string> OciCommand::seccomp_of(const ContainerSpec& spec) const {
  if (!spec.seccomp) return std::string();
  return cached_seccomp(*spec.seccomp, root_ + "/.seccomp");
}

Result<int> OciCommand::create(bool start_too) {
  if (args_.operands.empty()) return Error(Error::invalid, kDomain, args_.command + ": name the container");
  const std::string& id = args_.operands.front();
  ORC_TRY(check_container_id(id));
  ORC_ASSIGN(const std::string bundle, absolute(args_.get("bundle", ".")));
  ORC_ASSIGN(ContainerSpec spec, ContainerSpec::from_bundle(bundle));
  if (!spec.process) return Error(Error::invalid, kDomain, "config.json: process: missing");
  ORC_ASSIGN(spec.root_path, absolute(spec.root_path));
  ORC_ASSIGN(const int preserved, preserved_fds(*spec.process));
  ORC_ASSIGN(std::string filter, seccomp_of(spec));
  OciState state;
  state.id = id;
  state.bundle = bundle;
  state.rootfs = spec.root_path;
  state.annotations = spec.annotations;
  state.oci_version = spec.oci_version;
  state.created = rfc3339(real_clock().now().wall_ns);
  state.owner = geteuid() == 0 ? "root" : std::to_string(geteuid());
  ORC_TRY(store_.reserve(id));
  const auto undo = [&](const Error& error) -> Error {
    if (auto cgroups = cgroups_of(state); cgroups && *cgroups)
      (void)(*cgroups)->remove(state.cgroup, kRemoveDeadline);
    stop_systemd_unit(state);
    (void)store_.forget(id);
    if (state.pid != 0) run_poststop(state, spec);
    return error;
  };
  PlanContext context;
  context.bundle = bundle;
  context.start_fifo = store_.fifo(id);
  context.seccomp_filter = std::move(filter);
  context.state_json = hook_state(state, "created", 0);
  context.state_members = state_members_json(state, "creating");
  std::tie(context.apparmor, context.selinux) = detect_labels();
  context.no_pivot = args_.has("no-pivot");
  context.no_new_keyring = args_.has("no-new-keyring");
  context.moves_net_devices = true;
  context.runtime_hooks =
      !spec.hooks.prestart.empty() || !spec.hooks.create_runtime.empty() || !spec.net_devices.empty();
  context.check_program = true;
  const bool detached = !start_too || args_.has("detach");
  const bool terminal = spec.process->terminal;
  const auto make = [&]() -> Result<OciProcess> {
    if (mkfifo(context.start_fifo.c_str(), 0600) != 0)
      return system_error(kDomain, "mkfifo", context.start_fifo, errno);
    if (terminal && detached && !args_.has("console-socket")) {
      return Error(Error::invalid, kDomain,
                   "process.terminal is true: a detached container needs --console-socket");
    }
    ORC_TRY(place(state, spec, context));
    OciProcessRequest request;
    context.preserved_fds = preserved;
    ORC_ASSIGN(request.plan, make_plan(spec, context));
    request.terminal = terminal;
    request.wait = !detached;
    request.preserved_fds = preserved;
    request.pidfd_socket = args_.get("pidfd-socket");
    request.input = input_;
    request.output = output_;
    request.error = error_;
    request.console_socket = args_.get("console-socket");
    request.runtime_hooks = [&](int pid) -> Result<void> {
      state.pid = pid;
      ORC_TRY(move_net_devices(spec.net_devices, pid));
      const std::string json = hook_state(state, "creating", pid);
      ORC_TRY(run_runtime_hooks(spec.hooks.prestart, json, "prestart"));
      return run_runtime_hooks(spec.hooks.create_runtime, json, "createRuntime");
    };
    return make_oci_process(request);
  };
  auto process = make();
  holder_.reset();  // the unit has its container now, or goes
  if (!process) return undo(process.error());
  state.pid = process->pid;
  const auto finish = [&]() -> Result<void> {
    ORC_ASSIGN(state.start_ticks, process_start_time(state.pid));
    ORC_TRY(store_.save(state));
    if (args_.has("pid-file"))
      ORC_TRY(replace_file(full_path(args_.get("pid-file")), std::to_string(state.pid), 0644, false));
    if (start_too) ORC_TRY(start_created(state));
    return {};
  };
  if (auto finished = finish(); !finished) {
    kill(state.pid, SIGKILL);
    return undo(finished.error());
  }
  if (detached) return 0;
  if (process->terminal) proxy_terminal(process->terminal, input_, output_, process->parent.pidfd);
  const int code = wait_for_child(process->parent);
  if (!args_.has("keep")) ORC_TRY(delete_container(state, true));
  return code;
}

Result<void> OciCommand::start_created(const OciState& state) {
  const std::string path = store_.fifo(state.id);
  ORC_ASSIGN(const Fd fifo, open_file(path, O_WRONLY | O_NONBLOCK));
  ORC_TRY(write_all(fifo.get(), "1"));
  if (unlink(path.c_str()) != 0) return system_error(kDomain, "unlink", path, errno);
  const auto spec = ContainerSpec::from_bundle(state.bundle);
  if (!spec || spec->hooks.poststart.empty()) return {};
  auto hooked =
      run_runtime_hooks(spec->hooks.poststart, hook_state(state, "running", state.pid), "poststart");
  if (!hooked) kill(state.pid, SIGKILL);  // since runtime-spec 1.3 a failure ends the container
  return hooked;
}

Result<int> OciCommand::start() {
  ORC_ASSIGN(const OciState state, load_operand());
  const std::string status = store_.status(state);
  if (status != "created")
    return Error(Error::conflict, kDomain,
                 "container " + state.id + " cannot be started: it is " + status + ", not created");
  ORC_TRY(start_created(state));
  return 0;
}

Result<int> OciCommand::state() {
  ORC_ASSIGN(const OciState state, load_operand());
  print(state_json(state, store_.status(state), true) + "\n");
  return 0;
}

Result<int> OciCommand::list() {
  json::array all;
  std::string table = "ID          PID         STATUS      BUNDLE      CREATED      OWNER\n", names;
  for (const std::string& id : store_.ids()) {
    const auto state = store_.load(id);
    if (!state) continue;
    const std::string status = store_.status(*state);
    auto entry = parse_json(state_json(*state, status, true));
    if (entry) all.push_back(*entry);
    const std::string pid = status == "stopped" ? "0" : std::to_string(state->pid);
    table += id + "   " + pid + "   " + status + "   " + state->bundle + "   " + state->created + "   " +
             state->owner + "\n";
    names += id + "\n";
  }
  print(args_.has("quiet") ? names : args_.get("format", "table") == "json" ? to_json(all) + "\n" : table);
  return 0;
}

Result<int> OciCommand::ps() {
  ORC_ASSIGN(const OciState state, load_operand());
  ORC_ASSIGN(const auto cgroups, cgroups_of(state));
  std::vector<int> pids{state.pid};
  if (cgroups) {
    ORC_ASSIGN(pids, cgroups->processes(state.cgroup));
  }
  json::array all;
  std::string table = "PID\n";
  for (const int pid : pids) {
    all.emplace_back(pid);
    table += std::to_string(pid) + "\n";
  }
  print(args_.get("format", "table") == "json" ? to_json(all) + "\n" : table);
  return 0;
}

Result<int> OciCommand::kill_container() {
  ORC_ASSIGN(const OciState state, load_operand());
  ORC_ASSIGN(const int signal, parse_signal(args_.operands.size() > 1 ? args_.operands[1] : "TERM"));
  const std::string status = store_.status(state);
  if (args_.has("all")) {
    ORC_ASSIGN(const auto cgroups, cgroups_of(state));
    if (cgroups) {
      ORC_ASSIGN(const auto pids, cgroups->processes(state.cgroup));
      for (const int pid : pids) kill(pid, signal);
      return 0;
    }
  }
  if (status != "created" && status != "running" && status != "paused")
    return Error(Error::conflict, kDomain, "container not running: " + state.id + " is " + status);
  ORC_ASSIGN(const Fd pidfd, open_pidfd(state.pid));
  if (store_.status(state) == "stopped")
    return Error(Error::conflict, kDomain, "container not running: " + state.id + " is stopped");
  if (syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0) != 0)
    return system_error(kDomain, "kill", state.id, errno);
  return 0;
}

Result<void> OciCommand::delete_container(const OciState& state, bool force) {
  const std::string status = store_.status(state);
  const bool ended = status == "stopped" || status == "creating";
  if (!ended && !force && status != "created") {
    return Error(
        Error::conflict, kDomain,
        "container " + state.id + " cannot be deleted: it is " + status + "; stop it, or use --force");
  }
  if (!ended) {
    if (status == "paused") {
      ORC_ASSIGN(const auto cgroups, cgroups_of(state));
      if (cgroups) (void)cgroups->freeze(state.cgroup, false, std::chrono::seconds(2));
    }
    kill(state.pid, SIGKILL);
  }
  ORC_ASSIGN(const auto cgroups, cgroups_of(state));
  if (cgroups) {
    ORC_TRY(cgroups->remove(state.cgroup, kRemoveDeadline));
    if (state.cgroup_parent == "/orchestra") cgroups->remove_parent();
  }
  stop_systemd_unit(state);
  ORC_TRY(store_.forget(state.id));
  if (const auto spec = ContainerSpec::from_bundle(state.bundle)) run_poststop(state, *spec);
  return {};
}

void OciCommand::run_poststop(const OciState& state, const ContainerSpec& spec) const {
  for (const auto& hook : spec.hooks.poststop) {  // each runs, a failure is only told
    if (auto ran = run_runtime_hooks({hook}, hook_state(state, "stopped", 0), "poststop"); !ran)
      warn(ran.error().message());
  }
}

void OciCommand::warn(const std::string& message) const {
  (void)write_all(error_, "orchestra oci: warning: " + message + "\n");
}

Result<int> OciCommand::preserved_fds(ContainerSpec::Process& process) const {
  const auto number = [](const std::string& text) -> int {
    int value = -1;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size() ? value : -1;
  };
  int count = number(args_.get("preserve-fds", "0"));
  if (const char* listen = std::getenv("LISTEN_FDS"); listen != nullptr && number(listen) > 0) {
    count += number(listen);
    process.env.push_back(std::string("LISTEN_FDS=") + listen);
    process.env.push_back("LISTEN_PID=1");
    if (const char* names = std::getenv("LISTEN_FDNAMES"))
      process.env.push_back(std::string("LISTEN_FDNAMES=") + names);
  }
  if (count < 0 || count > wire::kPreservedFdsMax) {
    return Error(Error::invalid, kDomain,
                 "--preserve-fds " + args_.get("preserve-fds", "0") + ": 0.." +
                     std::to_string(wire::kPreservedFdsMax) + " descriptors are taken");
  }
  for (int fd = 3; fd < 3 + count; ++fd) {
    if (fcntl(fd, F_GETFD) < 0)
      return Error(Error::invalid, kDomain,
                   "--preserve-fds: descriptor " + std::to_string(fd) + " is not open");
  }
  return count;
}

Result<int> OciCommand::remove() {
  if (args_.has("regex")) {
    if (args_.operands.empty()) return Error(Error::invalid, kDomain, "delete --regex: name a pattern");
    regex_t pattern;
    if (regcomp(&pattern, args_.operands.front().c_str(), REG_EXTENDED | REG_NOSUB) != 0)
      return Error(Error::invalid, kDomain,
                   "delete --regex \"" + args_.operands.front() + "\": no extended regular expression");
    Result<void> last;
    for (const std::string& id : store_.ids()) {
      if (regexec(&pattern, id.c_str(), 0, nullptr, 0) != 0) continue;
      auto state = store_.load(id);
      auto gone = state ? delete_container(*state, args_.has("force")) : Result<void>(state.error());
      if (!gone) last = gone;
    }
    regfree(&pattern);
    ORC_TRY(last);
    return 0;
  }
  auto state = load_operand();
  if (!state && args_.has("force") && state.error().is(Error::not_found)) return 0;
  if (!state) return state.error();
  ORC_TRY(delete_container(*state, args_.has("force")));
  return 0;
}

Result<ContainerSpec> OciCommand::exec_spec(const OciState& state) const {
  ORC_ASSIGN(ContainerSpec spec, ContainerSpec::from_bundle(state.bundle));
  if (!spec.process) return Error(Error::invalid, kDomain, "config.json: process: missing");
  auto& process = *spec.process;
  if (args_.has("process")) {
    ORC_ASSIGN(const std::string text, read_file(args_.get("process"), 4 << 20));
    const std::string document =
        "{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"/\"},\"process\":" + text + "}";
    ORC_ASSIGN(ContainerSpec given, ContainerSpec::from_json(document));
    process = *given.process;
    return spec;
  }
  process.args.assign(args_.operands.begin() + 1, args_.operands.end());
  process.terminal = args_.has("tty");
  if (args_.has("cwd")) process.cwd = args_.get("cwd");
  for (const std::string& entry : args_.all("env")) process.env.push_back(entry);
  if (args_.has("no-new-privs")) process.no_new_privileges = true;
  if (args_.has("user")) {
    const std::string user = args_.get("user");
    const std::size_t colon = user.find(':');
    const auto number = [](const std::string& text, std::uint32_t& out) {
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
      return error == std::errc() && end == text.data() + text.size();
    };
    if (!number(user.substr(0, colon), process.user.uid) ||
        (colon != std::string::npos && !number(user.substr(colon + 1), process.user.gid))) {
      return Error(Error::invalid, kDomain, "--user \"" + user + "\": expected UID or UID:GID");
    }
  }
  if (args_.has("apparmor")) process.apparmor_profile = args_.get("apparmor");
  if (args_.has("process-label")) process.selinux_label = args_.get("process-label");
  for (const std::string& text : args_.all("additional-gids")) {
    std::uint32_t gid = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), gid);
    if (error != std::errc() || end != text.data() + text.size())
      return Error(Error::invalid, kDomain, "--additional-gids \"" + text + "\": expected a number");
    process.user.additional_gids.push_back(gid);
  }
  for (const std::string& cap : args_.all("cap")) {
    if (!capability_number(cap))
      return Error(Error::invalid, kDomain, "--cap \"" + cap + "\": unknown capability");
    if (!process.capabilities) process.capabilities.emplace();
    for (auto* set : {&process.capabilities->bounding, &process.capabilities->effective,
                      &process.capabilities->permitted})
      set->push_back(cap);
  }
  return spec;
}

Result<int> OciCommand::exec() {
  ORC_ASSIGN(const OciState state, load_operand());
  const std::string status = store_.status(state);
  if (status != "running" && !(status == "paused" && args_.has("ignore-paused"))) {
    return Error(Error::conflict, kDomain,
                 "cannot exec in container " + state.id + ": container not running (it is " + status + ")");
  }
  ORC_ASSIGN(ContainerSpec spec, exec_spec(state));
  PlanContext context;
  context.state_members = state_members_json(state, status);
  std::tie(context.apparmor, context.selinux) = detect_labels();
  ORC_ASSIGN(context.preserved_fds, preserved_fds(*spec.process));
  context.exec = true;
  for (const auto& space : spec.namespaces) {
    constexpr std::pair<std::string_view, int> flags[] = {{"mount", CLONE_NEWNS},
                                                          {"ipc", CLONE_NEWIPC},
                                                          {"uts", CLONE_NEWUTS},
                                                          {"network", CLONE_NEWNET},
                                                          {"cgroup", CLONE_NEWCGROUP},
                                                          {"user", CLONE_NEWUSER},
                                                          {"time", 0x80 /* CLONE_NEWTIME */}};
    for (const auto& [name, flag] : flags) {
      if (space.type == name) context.join_namespaces |= static_cast<std::uint64_t>(flag);
    }
  }
  ORC_ASSIGN(const auto cgroups, cgroups_of(state));
  if (cgroups) {
    std::string group = state.cgroup;
    if (args_.has("cgroup")) group += "/" + args_.get("cgroup");
    if (group.find("..") != std::string::npos)
      return Error(Error::invalid, kDomain, "--cgroup " + args_.get("cgroup") + ": has a \"..\"");
    CgroupPlace place = cgroups->place(group, spec.resources);
    context.cgroup_files = std::move(place.files);
    context.cgroup_unified = std::move(place.unified);
  }
  ORC_ASSIGN(context.seccomp_filter, seccomp_of(spec));
  ORC_ASSIGN(const Fd pidfd, open_pidfd(state.pid));
  OciProcessRequest request;
  ORC_ASSIGN(request.plan, make_plan(spec, context));
  request.terminal = spec.process->terminal;
  request.wait = !args_.has("detach");
  request.preserved_fds = context.preserved_fds;
  request.pidfd_socket = args_.get("pidfd-socket");
  request.input = input_;
  request.output = output_;
  request.error = error_;
  request.container_pidfd = pidfd.get();
  request.console_socket = args_.get("console-socket");
  ORC_ASSIGN(OciProcess process, make_oci_process(request));
  if (args_.has("pid-file"))
    ORC_TRY(replace_file(full_path(args_.get("pid-file")), std::to_string(process.pid), 0644, false));
  if (!request.wait) return 0;
  if (process.terminal) proxy_terminal(process.terminal, input_, output_, process.parent.pidfd);
  return wait_for_child(process.parent);
}

Result<int> OciCommand::freeze(bool frozen) {
  ORC_ASSIGN(const OciState state, load_operand());
  const std::string status = store_.status(state);
  if (status != (frozen ? "running" : "paused"))
    return Error(Error::conflict, kDomain, "container " + state.id + " is " + status);
  ORC_ASSIGN(const auto cgroups, cgroups_of(state));
  if (!cgroups) return Error(Error::unsupported, kDomain, "pause: container " + state.id + " has no cgroup");
  ORC_TRY(cgroups->freeze(state.cgroup, frozen, std::chrono::seconds(2)));
  return 0;
}

}  // namespace orchestra::runtime

namespace orchestra {
namespace {
void report(const runtime::OciArguments& args, const Error& error, int error_fd) {
  std::string message = error.message();
  for (char& c : message) c = c == '\n' ? ' ' : c;
  const json::object line{
      {"level", "error"}, {"msg", message}, {"time", runtime::rfc3339(real_clock().now().wall_ns)}};
  const bool as_json = args.get("log-format") == "json";
  if (args.has("log")) {
    const auto file = open_file(args.get("log"), O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (file)
      (void)write_all(file->get(), (as_json ? to_json(line)
                                            : "time=\"" + runtime::rfc3339(real_clock().now().wall_ns) +
                                                  "\" level=error msg=\"" + message + "\"") +
                                       "\n");
  }
  (void)write_all(error_fd, "orchestra oci: " + message + "\n");
}
}  // namespace

int run_oci_command(const std::vector<std::string>& args, int input, int output, int error) {
  auto parsed = runtime::parse_oci_arguments(args);
  if (!parsed) {
    report({}, parsed.error(), error);
    return 1;
  }
  auto code = runtime::OciCommand(*parsed, input, output, error).run();
  if (code) return *code;
  report(*parsed, code.error(), error);
  return 1;
}

}  // namespace orchestra
