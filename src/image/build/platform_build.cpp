// Inputs, order of stages, and the instructions that need no files; see platform_build.hpp.
#include "image/build/platform_build.hpp"

#include <algorithm>

#include "image/pull.hpp"
#include "image/transfers.hpp"
#include "orchestra/env.hpp"

namespace orchestra::image {
namespace {

constexpr std::size_t kIgnoreBytesMax = 1 << 20;
constexpr std::size_t kUserFileBytesMax = 4 << 20;

Instruction from_of(const Stage& stage) {
  Instruction out;
  out.name = "FROM";
  out.line = stage.line;
  out.rest = stage.base + (stage.name.empty() ? "" : " AS " + stage.name);
  return out;
}

}  // namespace

PlatformBuild::PlatformBuild(Store& store, std::shared_ptr<StepRunner> runner, const BuildOptions& options,
                             Platform platform, BuildCache& cache, Lease& lease)
    : store_(store),
      runner_(std::move(runner)),
      options_(options),
      platform_(std::move(platform)),
      cache_(cache),
      lease_(lease) {}

Result<BuiltPlatform> PlatformBuild::run() {
  ORC_TRY(read_inputs());
  ORC_ASSIGN(const std::size_t target, find_target());
  ORC_TRY(plan_stages(target));
  ORC_TRY(run_stages());
  return commit(*states_.at(target));
}

Result<void> PlatformBuild::read_inputs() {
  file_ = options_.dockerfile.empty() ? options_.context + "/Dockerfile" : options_.dockerfile;
  auto context = LayerStack::open({options_.context});
  if (!context) return context.error().with_context("build context " + options_.context);
  context_ = std::move(*context);
  auto text = read_file(file_, kDockerfileBytesMax);
  if (!text) return text.error().with_context("Dockerfile");
  auto parsed = parse_dockerfile(*text);
  if (!parsed) return parsed.error().with_context(file_);
  dockerfile_ = std::move(*parsed);
  warnings_ = dockerfile_.warnings;
  auto ignore = read_file(file_ + ".dockerignore", kIgnoreBytesMax);
  if (!ignore) ignore = read_file(options_.context + "/.dockerignore", kIgnoreBytesMax);
  if (ignore) ignore_ = IgnoreList(*ignore);
  return declare_global_args();
}

Result<void> PlatformBuild::declare_global_args() {
  const Platform host = host_platform();
  for (const auto& [name, platform] : {std::pair<std::string, const Platform&>{"TARGET", platform_},
                                       std::pair<std::string, const Platform&>{"BUILD", host}}) {
    global_[name + "PLATFORM"] = platform.text();
    global_[name + "OS"] = platform.os;
    global_[name + "ARCH"] = platform.architecture;
    global_[name + "VARIANT"] = platform.variant;
  }
  if (options_.source_date_epoch) global_["SOURCE_DATE_EPOCH"] = std::to_string(*options_.source_date_epoch);
  for (const Instruction& instruction : dockerfile_.global_args) {
    auto pairs = split_assignments(instruction, dockerfile_.escape);
    if (!pairs) return pairs.error().with_context(file_);
    for (const auto& [name, raw] : *pairs) {
      if (const auto given = options_.build_args.find(name); given != options_.build_args.end()) {
        global_[name] = given->second;
      } else if (instruction.rest.find(name + "=") != std::string::npos) {
        auto value = expand_word(raw, global_, dockerfile_.escape);
        if (!value) return at(instruction, value.error());
        global_[name] = *value;
      }
    }
  }
  return {};
}

Result<std::size_t> PlatformBuild::find_target() const {
  const auto& stages = dockerfile_.stages;
  if (options_.target.empty()) return stages.size() - 1;
  if (const auto index = find_stage(options_.target, stages.size())) return *index;
  std::string names;
  for (const Stage& stage : stages) {
    if (!stage.name.empty()) names += (names.empty() ? "" : ", ") + stage.name;
  }
  return Error(Error::not_found, "image",
               file_ + " has no stage \"" + options_.target +
                   "\"; it has: " + (names.empty() ? "none with a name" : names));
}

/// By name or number, among the stages before `end`.
std::optional<std::size_t> PlatformBuild::find_stage(const std::string& text, std::size_t end) const {
  std::string name = text;
  for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  for (std::size_t i = 0; i < end; ++i) {
    if (!dockerfile_.stages[i].name.empty() && dockerfile_.stages[i].name == name) return i;
  }
  const bool number =
      !name.empty() && name.size() < 4 && name.find_first_not_of("0123456789") == std::string::npos;
  if (number && std::stoul(name) < end) return std::stoul(name);
  return std::nullopt;
}

/// The stages that `target` needs, in waves: each needs only stages of earlier ones. References go only
/// backwards, so there is no circle.
Result<void> PlatformBuild::plan_stages(std::size_t target) {
  needed_ = {target};
  std::map<std::size_t, std::set<std::size_t>> needs;
  for (std::size_t i = target + 1; i-- > 0;) {
    if (!needed_.contains(i)) continue;
    const Stage& stage = dockerfile_.stages[i];
    auto base = expand_word(stage.base, global_, dockerfile_.escape);
    if (!base) return at(from_of(stage), base.error());
    if (const auto index = find_stage_by_name(*base, i)) needs[i].insert(*index);
    for (const Instruction& instruction : stage.instructions) {
      if (const std::string* from = instruction.flag("from")) {
        if (const auto index = find_stage(*from, i)) needs[i].insert(*index);
      }
      for (const std::string& text : instruction.flags_of("mount")) {
        const auto mount = parse_mount(text);
        if (!mount) return at(instruction, mount.error());
        if (mount->from.empty()) continue;
        if (const auto index = find_stage(mount->from, i)) needs[i].insert(*index);
      }
    }
    needed_.insert(needs[i].begin(), needs[i].end());
    steps_ += stage.instructions.size() + 1;
  }
  std::map<std::size_t, std::size_t> level;
  for (const std::size_t index : needed_) {
    for (const std::size_t other : needs[index]) level[index] = std::max(level[index], level[other] + 1);
    if (waves_.size() <= level[index]) waves_.resize(level[index] + 1);
    waves_[level[index]].push_back(index);
    states_[index] = std::nullopt;
  }
  return {};
}

Result<void> PlatformBuild::run_stages() {
  for (const auto& wave : waves_) {
    std::vector<Transfer> stages;
    for (const std::size_t index : wave) stages.push_back([this, index] { return run_stage(index); });
    ORC_TRY(run_transfers(store_.engine(), std::move(stages)));
  }
  return {};
}

/// FROM takes names only: a number is an image name there.
std::optional<std::size_t> PlatformBuild::find_stage_by_name(const std::string& text, std::size_t end) const {
  const auto index = find_stage(text, end);
  if (index && text.find_first_not_of("0123456789") == std::string::npos) return std::nullopt;
  return index;
}

/// `error` with file, line and instruction in front, and as a detail.
Error PlatformBuild::at(const Instruction& instruction, const Error& error, BuildFailure failure) const {
  failure.file = file_;
  failure.line = instruction.line;
  failure.instruction = instruction.text();
  const std::string shown = failure.instruction.substr(0, 100);
  return error.with_context(file_ + ":" + std::to_string(instruction.line) + ": " + shown)
      .with_detail(failure);
}

void PlatformBuild::say(const std::string& line) const {
  std::lock_guard lock(mutex_);
  if (options_.progress) options_.progress(line);
}

void PlatformBuild::say_step(const std::string& text, bool cached) {
  std::string line;
  {
    std::lock_guard lock(mutex_);
    ++steps_done_;
    if (cached) ++steps_cached_;
    line = "[" + std::to_string(steps_done_) + "/" + std::to_string(std::max(steps_, steps_done_)) + "] " +
           text.substr(0, text.find('\n')) + (cached ? " (cached)" : "");
  }
  say(line);
}

Result<void> PlatformBuild::run_stage(std::size_t index) {
  const Stage& stage = dockerfile_.stages[index];
  const Instruction from = from_of(stage);
  say_step(from.text());
  auto begun = begin_stage(stage, index);
  if (!begun) return at(from, begun.error());
  StageState& state = states_.at(index).emplace(std::move(*begun));
  state.set_created(options_.source_date_epoch);
  for (const std::string& trigger : state.take_on_build()) {
    auto parsed = parse_dockerfile("FROM scratch\n" + trigger);
    if (!parsed) return at(from, parsed.error().with_context("ONBUILD " + trigger));
    for (Instruction instruction : parsed->stages.front().instructions) {
      instruction.line = stage.line;
      ORC_TRY(run_instruction(state, instruction, index));
    }
  }
  for (const Instruction& instruction : stage.instructions)
    ORC_TRY(run_instruction(state, instruction, index));
  return {};
}

Result<StageState> PlatformBuild::begin_stage(const Stage& stage, std::size_t index) {
  ORC_ASSIGN(const std::string base, expand_word(stage.base, global_, dockerfile_.escape));
  if (base.empty())
    return Error(Error::invalid, "image", "the base image is empty after its variables were put in");
  if (!stage.platform.empty()) {
    ORC_ASSIGN(const std::string text, expand_word(stage.platform, global_, dockerfile_.escape));
    ORC_ASSIGN(const Platform platform, Platform::parse(text));
    const bool fits = platform_fits(platform, platform_) || platform_fits(platform, host_platform());
    if (!fits) {
      return Error(Error::unsupported, "image",
                   "--platform=" + text + " on a machine of " + platform_.text());
    }
  }
  if (base == "scratch") return StageState(platform_);
  if (const auto earlier = find_stage_by_name(base, index)) return states_.at(*earlier)->child();
  ORC_ASSIGN(const auto image, load_image(base));
  ORC_ASSIGN(const std::string config, store_.blobs().read(image->manifest.config.digest, kConfigBytesMax));
  return StageState::from_image(config, image->manifest, image->config);
}

Result<std::shared_ptr<const LoadedImage>> PlatformBuild::load_image(const std::string& name) {
  ORC_ASSIGN(auto found, store_.find_image(name));
  if (!found) {
    ORC_ASSIGN(const ImageReference reference, ImageReference::parse(name));
    ImagePullOptions pull;
    pull.progress = options_.progress;
    ORC_ASSIGN(const ImageInfo pulled, pull_image(store_, reference, pull));
    ORC_ASSIGN(found, store_.find_image(pulled.digest));
    if (!found) return Error(Error::not_found, "image", name + " was removed while it was used");
  }
  std::string digest = found->manifest;
  if (found->whole_index) {
    ORC_ASSIGN(const std::string bytes, store_.blobs().read(found->index, kManifestBytesMax));
    ORC_ASSIGN(const Index index, parse_index(bytes));
    ORC_ASSIGN(const Descriptor chosen, choose_platform(index, platform_));
    digest = chosen.digest;
  }
  lease_.hold(digest);
  ORC_ASSIGN(const auto image, store_.load(digest));
  if (!image->manifest.is_image()) return Error(Error::unsupported, "image", name + " is no container image");
  if (!platform_fits(image->config.platform, platform_)) {
    return Error(Error::unsupported, "image",
                 name + " is here for " + image->config.platform.text() + ", not for " + platform_.text() +
                     "; fetch all of it: orchestra image pull --all-platforms " + name);
  }
  lease_.hold(image->manifest.config.digest);
  return image;
}

Result<LayerStack> PlatformBuild::open_tree(const StageState& state) {
  ORC_ASSIGN(const auto layers, store_.ensure_layers(state.layers(), state.diff_ids(), lease_));
  std::vector<std::uint64_t> numbers;
  for (const LayerRecord& layer : layers) numbers.push_back(layer.number);
  return store_.open_layers(numbers);
}

Result<void> PlatformBuild::run_instruction(StageState& state, const Instruction& instruction,
                                            std::size_t index) {
  auto done = dispatch(state, instruction, index);
  if (done) return {};
  if (done.error().detail<BuildFailure>() != nullptr) return done;
  return at(instruction, done.error());
}

Result<void> PlatformBuild::dispatch(StageState& state, const Instruction& instruction, std::size_t index) {
  const std::string& name = instruction.name;
  if (name == "COPY" || name == "ADD") return copy(state, instruction, index);
  if (name == "RUN") return run_command(state, instruction, index);
  if (name == "WORKDIR") return working_directory(state, instruction);
  say_step(instruction.text());
  if (name == "ARG") {
    ORC_TRY(state.declare_args(instruction, dockerfile_.escape, options_.build_args, global_));
    state.add_history(instruction.text());
    return {};
  }
  if (!StageState::is_configuration(name))
    return Error(Error::unsupported, "image", name + " is not supported");
  ORC_TRY(state.configure(instruction, dockerfile_.escape));
  // The values that went in count, not the names of the variables.
  state.advance_key({name, instruction.text(), state.config_json()});
  state.add_history(instruction.text());
  return {};
}

Result<void> PlatformBuild::layer_step(StageState& state, const Instruction& instruction, const Parts& parts,
                                       const std::function<Result<BuiltLayer>()>& make) {
  std::vector<std::string> key_parts;
  for (const auto& [label, value] : parts) key_parts.push_back(value);
  // What a layer holds depends on the limit of its times.
  if (options_.source_date_epoch) key_parts.push_back("epoch " + std::to_string(*options_.source_date_epoch));
  const std::string key = StageState::next_key(state.key(), key_parts);
  std::optional<BuiltLayer> layer;
  if (!options_.no_cache) layer = cache_.find(key, store_.blobs());
  if (layer) lease_.hold(layer->blob.digest);
  say_step(instruction.text(), layer.has_value());
  Parts told{{"the step before it", state.key()}};
  told.insert(told.end(), parts.begin(), parts.end());
  const std::string why = cache_.explain(
      file_ + " " + platform_.text() + " " + std::to_string(instruction.line) + " " + instruction.name, told);
  if (!layer && options_.explain) say("  not from the cache: " + (options_.no_cache ? "--no-cache" : why));
  if (!layer) {
    ORC_ASSIGN(layer, make());
    lease_.hold(layer->blob.digest);
    cache_.put(key, *layer);
  }
  state.advance_key(key_parts);
  if (layer->blob.digest.empty()) {
    state.add_history(instruction.text());
  } else {
    state.add_layer(*layer, instruction.text());
  }
  return {};
}

Result<std::unique_ptr<LayerWriter>> PlatformBuild::begin_layer(const LayerStack& below) {
  ORC_ASSIGN(auto layer, LayerWriter::begin(store_.blobs(), below));
  layer->clamp_times(options_.source_date_epoch);
  return layer;
}

Result<void> PlatformBuild::working_directory(StageState& state, const Instruction& instruction) {
  ORC_ASSIGN(const std::string text, expand_word(instruction.rest, state.variables(), dockerfile_.escape));
  if (text.empty()) return Error(Error::invalid, "image", "WORKDIR is empty after its variables were put in");
  const std::string path = absolute_path(text, state.working_directory());
  state.set_working_directory("/" + path);
  return layer_step(state, instruction, {{"the instruction", "WORKDIR"}, {"the folder", path}},
                    [&]() -> Result<BuiltLayer> {
                      ORC_ASSIGN(const LayerStack tree, open_tree(state));
                      ORC_ASSIGN(const std::string real, tree.resolve(path));
                      ORC_ASSIGN(const auto there, tree.lookup(real));
                      if (real.empty() || (there && S_ISDIR(there->status.st_mode))) return BuiltLayer();
                      if (there)
                        return Error(Error::invalid, "image", "/" + real + " exists and is no directory");
                      ORC_ASSIGN(const auto layer, begin_layer(tree));
                      TarEntry entry;
                      entry.type = TarType::directory;
                      entry.path = real;
                      entry.mode = 0755;
                      ORC_TRY(layer->add(entry));
                      return layer->finish();
                    });
}

Result<ImageUser> PlatformBuild::find_user_in(const LayerStack& tree, const std::string& user) {
  ORC_ASSIGN(const auto passwd, tree.read_file("etc/passwd", kUserFileBytesMax));
  ORC_ASSIGN(const auto group, tree.read_file("etc/group", kUserFileBytesMax));
  return find_user(user, passwd.value_or(""), group.value_or(""));
}

Result<BuiltPlatform> PlatformBuild::commit(StageState& state) {
  for (const auto& argument : options_.build_args) {
    const std::string& name = argument.first;
    if (is_proxy_arg(name) || global_.contains(name)) continue;
    const bool declared = std::any_of(states_.begin(), states_.end(), [&](const auto& item) {
      return item.second && item.second->args().contains(name);
    });
    if (!declared) warnings_.push_back("--build-arg " + name + " is declared by no ARG");
  }
  if (platform_fits(platform_, host_platform()))
    ORC_TRY(store_.ensure_layers(state.layers(), state.diff_ids(), lease_));
  for (const auto& [name, value] : options_.labels) state.add_label(name, value);
  const std::string config = state.config_json();
  Descriptor config_blob;
  config_blob.media_type = kOciConfig;
  config_blob.size = config.size();
  ORC_ASSIGN(config_blob.digest, store_.blobs().put(config));
  lease_.hold(config_blob.digest);
  const std::string text = make_manifest(config_blob, state.layers(), options_.annotations);
  BuiltPlatform out;
  out.platform = platform_;
  out.manifest.media_type = kOciManifest;
  out.manifest.size = text.size();
  ORC_ASSIGN(out.manifest.digest, store_.blobs().put(text));
  lease_.hold(out.manifest.digest);
  out.layers = state.layers();
  out.diff_ids = state.diff_ids();
  return out;
}

}  // namespace orchestra::image
