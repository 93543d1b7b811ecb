// RUN of a build, with its mounts and heredocs; see platform_build.hpp.
#include <fcntl.h>

#include <algorithm>

#include "image/build/platform_build.hpp"
#include "image/file_copy.hpp"
#include "orchestra/env.hpp"

namespace orchestra::image {
namespace {

constexpr Duration kStepDeadline = std::chrono::hours(1);
constexpr const char* kScriptPath = "/dev/orchestra-script";
/// Known without ARG, and never part of a cache key.
constexpr const char* kProxyArgs[] = {"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY",
                                      "ftp_proxy",  "NO_PROXY",   "no_proxy",    "ALL_PROXY",   "all_proxy"};

}  // namespace

bool is_proxy_arg(const std::string& name) {
  return std::find(std::begin(kProxyArgs), std::end(kProxyArgs), name) != std::end(kProxyArgs);
}

/// What runs, decided before the cache is asked.
struct PlatformBuild::RunStep {
  std::vector<std::string> args;
  Variables environment;
  std::vector<MountSpec> mounts;
  std::string script;  ///< a heredoc that names its own interpreter
  bool network = false;
  std::size_t stage = 0;
};

std::string PlatformBuild::scratch_folder() {
  // tmp-: what open() removes after a crash.
  return store_.directory() + "/snapshots/tmp-build-" + store_.engine().random().uuid();
}

Result<void> PlatformBuild::run_command(StageState& state, const Instruction& instruction,
                                        std::size_t index) {
  if (!runner_) {
    return Error(Error::unsupported, "image",
                 "RUN needs a container runtime, and none was given to this builder");
  }
  if (!platform_fits(platform_, host_platform())) {
    return Error(Error::unsupported, "image",
                 "RUN for " + platform_.text() + " on a machine of " + host_platform().text() +
                     "; copy files that were built for it instead");
  }
  RunStep step;
  step.stage = index;
  step.network = options_.network;
  if (const std::string* network = instruction.flag("network")) {
    if (*network == "none") step.network = false;
    if (*network == "host" && !options_.network)
      return Error(Error::denied, "image", "--network=host was not allowed; build with --network host");
    if (*network != "none" && *network != "host" && *network != "default")
      return Error(Error::invalid, "image", "--network=" + *network + " is not default, none or host");
  }
  if (const std::string* security = instruction.flag("security");
      security != nullptr && *security != "sandbox")
    return Error(Error::denied, "image", "--security=" + *security + ": steps run in the sandbox only");
  for (const std::string& text : instruction.flags_of("mount")) {
    ORC_ASSIGN(const std::string expanded, expand_word(text, state.variables(), dockerfile_.escape));
    ORC_ASSIGN(MountSpec mount, parse_mount(expanded));
    step.mounts.push_back(std::move(mount));
  }
  const bool only_heredoc = instruction.heredocs.size() == 1 && instruction.rest.starts_with("<<") &&
                            instruction.rest.find(' ') == std::string::npos;
  if (instruction.exec) {
    step.args = *instruction.exec;
  } else if (only_heredoc && instruction.heredocs.front().content.starts_with("#!")) {
    step.script = instruction.heredocs.front().content;
    step.args = {kScriptPath};
  } else {
    step.args = state.shell();
    step.args.push_back(only_heredoc ? instruction.heredocs.front().content : instruction.shell_text());
  }
  if (step.args.empty()) return Error(Error::invalid, "image", "RUN [] has no command");
  step.environment = state.variables();
  std::string command = step.script;
  for (const std::string& arg : step.args) command += std::to_string(arg.size()) + ":" + arg;
  Parts parts{{"the instruction", "RUN"},
              {"the user", state.user()},
              {"the working directory", state.working_directory()},
              {"the network", step.network ? "network" : ""},
              {"the command", command}};
  for (const auto& [name, value] : step.environment)
    parts.emplace_back("the value of " + name, name + "=" + value);
  for (const MountSpec& mount : step.mounts) ORC_TRY(add_mount_keys(mount, index, parts));
  for (const char* name : kProxyArgs) {
    const auto given = options_.build_args.find(name);
    if (given != options_.build_args.end()) step.environment.emplace(name, given->second);
  }
  return layer_step(state, instruction, parts, [&] { return run_step(state, instruction, step); });
}

/// What a mount brings counts where it is content; caches, secrets and agents do not.
Result<void> PlatformBuild::add_mount_keys(const MountSpec& mount, std::size_t index, Parts& parts) {
  std::string value = mount.type + " " + mount.id + " " + mount.target + " " + mount.source + " " +
                      mount.from + " " + mount.environment + (mount.read_only ? " ro" : " rw");
  if (mount.type == "bind" && !mount.from.empty()) {
    if (const auto stage = find_stage(mount.from, index)) {
      value += " " + states_.at(*stage)->key();
    } else {
      ORC_ASSIGN(const auto image, load_image(mount.from));
      value += " " + image->digest;
    }
  } else if (mount.type == "bind") {
    CopySpec spec;
    const LayerStack nothing;
    spec.source = &context_;
    spec.ignore = &ignore_;
    spec.image = &nothing;
    spec.sources = {mount.source.empty() ? "." : mount.source};
    spec.destination = "/x/";
    spec.files_max = options_.context_files_max;
    spec.hashes = &store_.file_hashes();
    spec.engine = &store_.engine();
    ORC_ASSIGN(const CopyPlan plan, plan_copy(spec));
    value += " " + plan.digest;
  }
  parts.emplace_back("the mount " + (mount.target.empty() ? mount.environment : mount.target), value);
  return {};
}

/// A plain folder that can be bound: the context itself, or a stage's or image's tree as a copy.
Result<std::string> PlatformBuild::mount_folder(const std::string& from, std::size_t index,
                                                const std::string& scratch) {
  if (from.empty()) return options_.context;
  ORC_ASSIGN(const LayerStack tree, open_source(from, index));
  const std::string folder = scratch + "/from-" + from.substr(0, 40);
  std::string path;
  for (const char c : folder.substr(scratch.size() + 1)) path += c == '/' || c == ':' || c == '@' ? '_' : c;
  path = scratch + "/" + path;
  if (open_file(path, O_PATH).has_value()) return path;
  ORC_TRY(make_directories(path, 0755));
  ORC_ASSIGN(const Fd root, open_file(path, O_RDONLY | O_DIRECTORY));
  ORC_TRY(copy_stack(tree, root.get()));
  return path;
}

Result<BuiltLayer> PlatformBuild::run_step(StageState& state, const Instruction& instruction,
                                           const RunStep& step) {
  ORC_ASSIGN(const auto layers, store_.ensure_layers(state.layers(), state.diff_ids(), lease_));
  ORC_ASSIGN(const LayerStack tree, open_tree(state));
  const std::string path = scratch_folder();
  const std::string id(name_of(path));
  auto plan = store_.make_root(path, layers, options_.isolation);
  auto built = plan ? run_in(*plan, tree, id, state, instruction, step) : Result<BuiltLayer>(plan.error());
  auto removed = remove_tree(path);
  if (built && !removed) return removed.error();
  return built;
}

Result<BuiltLayer> PlatformBuild::run_in(const MountPlan& plan, const LayerStack& tree, const std::string& id,
                                         StageState& state, const Instruction& instruction,
                                         const RunStep& step) {
  ORC_ASSIGN(const ImageUser user, find_user_in(tree, state.user()));
  StepRequest request;
  request.id = id;
  request.root_directory = plan.directory;
  request.layers_directory = plan.layers_directory;
  request.overlay_lower = plan.overlay_lower;
  request.overlay_upper = plan.overlay_upper;
  request.overlay_work = plan.overlay_work;
  request.args = step.args;
  for (const auto& [name, value] : step.environment) request.env.push_back(name + "=" + value);
  if (!step.environment.contains("HOME")) request.env.push_back("HOME=" + user.home);
  request.cwd = state.working_directory();
  request.uid = user.uid;
  request.gid = user.gid;
  request.network = step.network;
  request.deadline = kStepDeadline;
  if (options_.progress) {
    request.on_output = [this](std::string_view bytes) { say(std::string(bytes)); };
  }
  MountStubs stubs;
  const std::string scratch = store_.directory() + "/snapshots/" + id + "-mounts";
  RunMounts mounts(store_, options_, scratch);
  for (const MountSpec& mount : step.mounts) {
    ORC_TRY(mounts.add(
        mount, [&](const std::string& from) { return mount_folder(from, step.stage, scratch); }, request));
  }
  if (!step.script.empty()) ORC_TRY(mounts.add_script(step.script, kScriptPath, request));
  for (StepMount& mount : request.mounts) {
    mount.target = "/" + absolute_path(mount.target, state.working_directory());
    for (std::string at = mount.target.substr(1); !at.empty(); at = parent_of(at)) stubs.insert(at);
  }
  auto ended = runner_->run(std::move(request)).wait(kStepDeadline + std::chrono::minutes(1));
  if (!ended) return ended.error();
  if (ended->exit_code != 0) {
    BuildFailure failure;
    failure.output = ended->output;
    failure.exit_code = ended->exit_code;
    std::string last =
        ended->output.substr(ended->output.size() - std::min<std::size_t>(ended->output.size(), 2000));
    while (last.ends_with('\n')) last.pop_back();
    return at(instruction,
              Error(Error::invalid, "image",
                    "the command ended with status " + std::to_string(ended->exit_code) +
                        (last.empty() ? "" : "; its last output:\n" + last)),
              failure);
  }
  ORC_ASSIGN(const auto layer, begin_layer(tree));
  const bool overlay = plan.directory.empty();
  ORC_ASSIGN(const Fd root, open_file(overlay ? plan.overlay_upper : plan.directory, O_RDONLY | O_DIRECTORY));
  ORC_TRY(overlay ? write_upper(root.get(), tree, *layer, stubs)
                  : write_difference(root.get(), tree, *layer, stubs));
  if (layer->empty()) return BuiltLayer();
  return layer->finish();
}

}  // namespace orchestra::image
