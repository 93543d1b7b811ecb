// The shell of builds: stages in order of need, one instruction after another.
//
// Unused stages are skipped. Each step has a key (parent key and all that decides its result); a step that
// makes files looks its layer up by key before it does anything. A failing step names file, line and
// instruction, and the end of its output. Nothing stays behind but content that the next collection removes.
#include <fcntl.h>

#include <algorithm>
#include <set>

#include "base/http_client.hpp"
#include "image/build/build_cache.hpp"
#include "image/build/copy_plan.hpp"
#include "image/build/dockerfile.hpp"
#include "image/build/stage.hpp"
#include "image/build/tree_diff.hpp"
#include "image/pull.hpp"
#include "image/store.hpp"
#include "image/user.hpp"
#include "orchestra/env.hpp"
#include "orchestra/image_builder.hpp"

namespace orchestra::image {
namespace {

constexpr std::size_t kIgnoreBytesMax = 1 << 20;
constexpr std::size_t kUserFileBytesMax = 4 << 20;
constexpr Duration kStepDeadline = std::chrono::hours(1);
/// Known without ARG, and never part of a cache key.
constexpr const char* kProxyArgs[] = {"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY",
                                      "ftp_proxy",  "NO_PROXY",   "no_proxy",    "ALL_PROXY",   "all_proxy"};

bool is_proxy_arg(const std::string& name) {
  return std::find(std::begin(kProxyArgs), std::end(kProxyArgs), name) != std::end(kProxyArgs);
}

class Build {
 public:
  Build(Store& store, std::shared_ptr<StepRunner> runner, BuildOptions options)
      : store_(store),
        runner_(std::move(runner)),
        options_(std::move(options)),
        lease_(store_.leases().begin()),
        cache_(store_.directory() + "/build-cache.json") {}

  Result<BuildResult> run() {
    ORC_TRY(read_inputs());
    ORC_ASSIGN(const std::size_t target, find_target());
    ORC_TRY(plan_stages(target));
    if (!options_.no_cache) cache_.load();
    for (const std::size_t index : order_) ORC_TRY(run_stage(index));
    ORC_TRY(cache_.save());
    return commit(states_.at(target));
  }

 private:
  // --- inputs ----------------------------------------------------------------------------------------

  Result<void> read_inputs() {
    file_ = options_.dockerfile.empty() ? options_.context + "/Dockerfile" : options_.dockerfile;
    auto context = LayerStack::open({options_.context});
    if (!context) return context.error().with_context("build context " + options_.context);
    context_ = std::move(*context);
    auto text = read_file(file_, kDockerfileBytesMax);
    if (!text) return text.error().with_context("Dockerfile");
    auto parsed = parse_dockerfile(*text);
    if (!parsed) return parsed.error().with_context(file_);
    dockerfile_ = std::move(*parsed);
    result_.warnings = dockerfile_.warnings;
    auto ignore = read_file(file_ + ".dockerignore", kIgnoreBytesMax);
    if (!ignore) ignore = read_file(options_.context + "/.dockerignore", kIgnoreBytesMax);
    if (ignore) ignore_ = IgnoreList(*ignore);
    platform_ = host_platform();
    return declare_global_args();
  }

  Result<void> declare_global_args() {
    for (const char* prefix : {"TARGET", "BUILD"}) {
      const std::string name = prefix;
      global_[name + "PLATFORM"] = platform_.text();
      global_[name + "OS"] = platform_.os;
      global_[name + "ARCH"] = platform_.architecture;
      global_[name + "VARIANT"] = platform_.variant;
    }
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

  Result<std::size_t> find_target() const {
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
  std::optional<std::size_t> find_stage(const std::string& text, std::size_t end) const {
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

  /// The stages that `target` needs, each after those it needs itself. References go only backwards.
  Result<void> plan_stages(std::size_t target) {
    std::set<std::size_t> needed{target};
    for (std::size_t i = target + 1; i-- > 0;) {
      if (!needed.contains(i)) continue;
      const Stage& stage = dockerfile_.stages[i];
      auto base = expand_word(stage.base, global_, dockerfile_.escape);
      if (!base) return at(from_of(stage), base.error());
      if (const auto index = find_stage_by_name(*base, i)) needed.insert(*index);
      for (const Instruction& instruction : stage.instructions) {
        const std::string* from = instruction.flag("from");
        if (from == nullptr) continue;
        if (const auto index = find_stage(*from, i)) needed.insert(*index);
      }
      steps_ += stage.instructions.size() + 1;
    }
    order_.assign(needed.begin(), needed.end());
    return {};
  }

  /// FROM takes names only: a number is an image name there.
  std::optional<std::size_t> find_stage_by_name(const std::string& text, std::size_t end) const {
    const auto index = find_stage(text, end);
    if (index && text.find_first_not_of("0123456789") == std::string::npos) return std::nullopt;
    return index;
  }

  static Instruction from_of(const Stage& stage) {
    Instruction out;
    out.name = "FROM";
    out.line = stage.line;
    out.rest = stage.base + (stage.name.empty() ? "" : " AS " + stage.name);
    return out;
  }

  /// `error` with file, line and instruction in front, and as a detail.
  Error at(const Instruction& instruction, const Error& error, BuildFailure failure = {}) const {
    failure.file = file_;
    failure.line = instruction.line;
    failure.instruction = instruction.text();
    const std::string shown = failure.instruction.substr(0, 100);
    return error.with_context(file_ + ":" + std::to_string(instruction.line) + ": " + shown)
        .with_detail(failure);
  }

  void say(const std::string& line) const {
    if (options_.progress) options_.progress(line);
  }
  void say_step(const std::string& text, bool cached = false) {
    ++step_;
    ++result_.steps;
    if (cached) ++result_.cached;
    say("[" + std::to_string(step_) + "/" + std::to_string(steps_) + "] " + text +
        (cached ? " (cached)" : ""));
  }

  // --- stages ----------------------------------------------------------------------------------------

  Result<void> run_stage(std::size_t index) {
    const Stage& stage = dockerfile_.stages[index];
    const Instruction from = from_of(stage);
    say_step(from.text());
    auto begun = begin_stage(stage, index);
    if (!begun) return at(from, begun.error());
    StageState& state = states_.insert_or_assign(index, std::move(*begun)).first->second;
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

  Result<StageState> begin_stage(const Stage& stage, std::size_t index) {
    ORC_ASSIGN(const std::string base, expand_word(stage.base, global_, dockerfile_.escape));
    if (base.empty())
      return Error(Error::invalid, "image", "the base image is empty after its variables were put in");
    if (!stage.platform.empty()) {
      ORC_ASSIGN(const std::string text, expand_word(stage.platform, global_, dockerfile_.escape));
      ORC_ASSIGN(const Platform platform, Platform::parse(text));
      if (!platform_fits(platform, platform_)) {
        return Error(Error::unsupported, "image",
                     "--platform=" + text + " on a machine of " + platform_.text());
      }
    }
    if (base == "scratch") return StageState(platform_);
    if (const auto earlier = find_stage_by_name(base, index)) return states_.at(*earlier).child();
    ORC_ASSIGN(const auto image, load_image(base));
    ORC_ASSIGN(const std::string config, store_.blobs().read(image->manifest.config.digest, kConfigBytesMax));
    return StageState::from_image(config, image->manifest, image->config);
  }

  Result<std::shared_ptr<const LoadedImage>> load_image(const std::string& name) {
    ORC_ASSIGN(auto found, store_.find_image(name));
    if (!found) {
      ORC_ASSIGN(const ImageReference reference, ImageReference::parse(name));
      ImagePullOptions pull;
      pull.progress = options_.progress;
      ORC_ASSIGN(const ImageInfo pulled, pull_image(store_, reference, pull));
      ORC_ASSIGN(found, store_.find_image(pulled.digest));
      if (!found) return Error(Error::not_found, "image", name + " was removed while it was used");
    }
    lease_.hold(found->manifest);
    ORC_ASSIGN(const auto image, store_.load(found->manifest));
    if (!image->manifest.is_image())
      return Error(Error::unsupported, "image", name + " is no container image");
    lease_.hold(image->manifest.config.digest);
    return image;
  }

  Result<LayerStack> open_tree(const StageState& state) {
    ORC_ASSIGN(const auto layers, store_.ensure_layers(state.layers(), state.diff_ids(), lease_));
    std::vector<std::uint64_t> numbers;
    for (const LayerRecord& layer : layers) numbers.push_back(layer.number);
    return store_.open_layers(numbers);
  }

  // --- instructions ----------------------------------------------------------------------------------

  Result<void> run_instruction(StageState& state, const Instruction& instruction, std::size_t index) {
    auto done = dispatch(state, instruction, index);
    if (done) return {};
    if (done.error().detail<BuildFailure>() != nullptr) return done;
    return at(instruction, done.error());
  }

  Result<void> dispatch(StageState& state, const Instruction& instruction, std::size_t index) {
    const std::string& name = instruction.name;
    if (name == "COPY" || name == "ADD") return copy(state, instruction, index);
    if (name == "RUN") return run_command(state, instruction);
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

  /// Takes the layer of `key` from the cache, or makes it. `make` writes the layer.
  template <class Make>
  Result<void> layer_step(StageState& state, const Instruction& instruction,
                          const std::vector<std::string>& key_parts, Make make) {
    const std::string key = StageState::next_key(state.key(), key_parts);
    std::optional<BuiltLayer> layer = cache_.find(key, store_.blobs());
    if (layer) lease_.hold(layer->blob.digest);
    say_step(instruction.text(), layer.has_value());
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

  Result<void> working_directory(StageState& state, const Instruction& instruction) {
    ORC_ASSIGN(const std::string text, expand_word(instruction.rest, state.variables(), dockerfile_.escape));
    if (text.empty())
      return Error(Error::invalid, "image", "WORKDIR is empty after its variables were put in");
    const std::string path = absolute_path(text, state.working_directory());
    state.set_working_directory("/" + path);
    return layer_step(state, instruction, {"WORKDIR", path}, [&]() -> Result<BuiltLayer> {
      ORC_ASSIGN(const LayerStack tree, open_tree(state));
      ORC_ASSIGN(const std::string real, tree.resolve(path));
      ORC_ASSIGN(const auto there, tree.lookup(real));
      if (real.empty() || (there && S_ISDIR(there->status.st_mode))) return BuiltLayer();
      if (there) return Error(Error::invalid, "image", "/" + real + " exists and is no directory");
      ORC_ASSIGN(const auto layer, LayerWriter::begin(store_.blobs(), tree));
      TarEntry entry;
      entry.type = TarType::directory;
      entry.path = real;
      entry.mode = 0755;
      ORC_TRY(layer->add(entry));
      return layer->finish();
    });
  }

  Result<void> copy(StageState& state, const Instruction& instruction, std::size_t index) {
    const Variables variables = state.variables();
    const char escape = dockerfile_.escape;
    std::vector<std::string> words;
    for (const std::string& word :
         instruction.exec ? *instruction.exec : split_words(instruction.rest, escape)) {
      ORC_ASSIGN(std::string value, expand_word(word, variables, escape));
      if (value.empty()) return Error(Error::invalid, "image", "an empty path");
      words.push_back(std::move(value));
    }
    ORC_ASSIGN(const LayerStack tree, open_tree(state));
    CopySpec spec;
    spec.image = &tree;
    spec.destination = words.back();
    words.pop_back();
    spec.working_directory = state.working_directory();
    spec.files_max = options_.context_files_max;
    spec.unpack_archives = instruction.name == "ADD";
    for (const std::string& source : words) {
      const bool is_remote = source.starts_with("http://") || source.starts_with("https://") ||
                             source.starts_with("git@") || source.starts_with("git://");
      if (spec.unpack_archives && is_remote) {
        return Error(Error::unsupported, "image",
                     "ADD of " + source + ": only local files; fetch it before the build");
      }
    }
    spec.sources = std::move(words);
    ORC_TRY(set_attributes_of(instruction, variables, tree, spec));
    LayerStack other;
    if (const std::string* from = instruction.flag("from")) {
      ORC_ASSIGN(const std::string name, expand_word(*from, variables, escape));
      ORC_ASSIGN(other, open_source(name, index));
      spec.source = &other;
      spec.keep_owner = true;
    } else {
      spec.source = &context_;
      spec.ignore = &ignore_;
    }
    ORC_ASSIGN(const CopyPlan plan, plan_copy(spec));
    return layer_step(state, instruction, {instruction.name, plan.digest}, [&]() -> Result<BuiltLayer> {
      ORC_ASSIGN(const auto layer, LayerWriter::begin(store_.blobs(), tree));
      ORC_TRY(write_copy(plan, spec, *layer));
      if (layer->empty()) return BuiltLayer();
      return layer->finish();
    });
  }

  /// --chown and --chmod.
  Result<void> set_attributes_of(const Instruction& instruction, const Variables& variables,
                                 const LayerStack& tree, CopySpec& spec) {
    if (const std::string* owner = instruction.flag("chown")) {
      ORC_ASSIGN(const std::string text, expand_word(*owner, variables, dockerfile_.escape));
      ORC_ASSIGN(const ImageUser user, find_user_in(tree, text));
      spec.owner = std::pair(user.uid, user.gid);
      // "1000" alone means 1000:1000 here, and so does a name: its own group.
      const bool numeric = text.find_first_not_of("0123456789") == std::string::npos;
      if (numeric) spec.owner->second = user.uid;
    }
    if (const std::string* mode = instruction.flag("chmod")) {
      ORC_ASSIGN(const std::string text, expand_word(*mode, variables, dockerfile_.escape));
      const bool octal =
          !text.empty() && text.size() <= 5 && text.find_first_not_of("01234567") == std::string::npos;
      if (!octal) return Error(Error::invalid, "image", "--chmod=" + text + " is not octal, like 0755");
      spec.mode = static_cast<std::uint32_t>(std::stoul(text, nullptr, 8)) & 07777;
    }
    return {};
  }

  static Result<ImageUser> find_user_in(const LayerStack& tree, const std::string& user) {
    ORC_ASSIGN(const auto passwd, tree.read_file("etc/passwd", kUserFileBytesMax));
    ORC_ASSIGN(const auto group, tree.read_file("etc/group", kUserFileBytesMax));
    return find_user(user, passwd.value_or(""), group.value_or(""));
  }

  /// COPY --from: an earlier stage by name or number, else an image.
  Result<LayerStack> open_source(const std::string& name, std::size_t index) {
    if (const auto stage = find_stage(name, index)) return open_tree(states_.at(*stage));
    ORC_ASSIGN(const auto image, load_image(name));
    ORC_ASSIGN(const auto layers, store_.ensure_layers(*image, lease_));
    std::vector<std::uint64_t> numbers;
    for (const LayerRecord& layer : layers) numbers.push_back(layer.number);
    return store_.open_layers(numbers);
  }

  // --- RUN -------------------------------------------------------------------------------------------

  Result<void> run_command(StageState& state, const Instruction& instruction) {
    if (!runner_) {
      return Error(Error::unsupported, "image",
                   "RUN needs a container runtime, and none was given to this builder");
    }
    std::vector<std::string> args;
    if (instruction.exec) {
      args = *instruction.exec;
    } else {
      args = state.shell();
      args.push_back(instruction.rest);
    }
    if (args.empty()) return Error(Error::invalid, "image", "RUN [] has no command");
    std::vector<std::string> key{"RUN", state.user(), state.working_directory(),
                                 options_.network ? "network" : ""};
    key.insert(key.end(), args.begin(), args.end());
    Variables environment = state.variables();
    for (const auto& [name, value] : environment) key.push_back(name + "=" + value);
    for (const char* name : kProxyArgs) {
      const auto given = options_.build_args.find(name);
      if (given != options_.build_args.end()) environment.emplace(name, given->second);
    }
    return layer_step(state, instruction, key, [&]() -> Result<BuiltLayer> {
      return run_step(state, instruction, args, environment);
    });
  }

  Result<BuiltLayer> run_step(StageState& state, const Instruction& instruction,
                              const std::vector<std::string>& args, const Variables& environment) {
    ORC_ASSIGN(const auto layers, store_.ensure_layers(state.layers(), state.diff_ids(), lease_));
    ORC_ASSIGN(const LayerStack tree, open_tree(state));
    ORC_ASSIGN(const ImageUser user, find_user_in(tree, state.user()));
    // tmp-: what open() removes after a crash.
    const std::string id = "tmp-build-" + store_.engine().random().uuid();
    const std::string path = store_.directory() + "/snapshots/" + id;
    auto plan = store_.make_root(path, layers, options_.isolation);
    auto built = plan ? run_in(*plan, tree, id, user, state, instruction, args, environment)
                      : Result<BuiltLayer>(plan.error());
    auto removed = remove_tree(path);
    if (built && !removed) return removed.error();
    return built;
  }

  Result<BuiltLayer> run_in(const MountPlan& plan, const LayerStack& tree, const std::string& id,
                            const ImageUser& user, StageState& state, const Instruction& instruction,
                            const std::vector<std::string>& args, const Variables& environment) {
    StepRequest request;
    request.id = id;
    request.root_directory = plan.directory;
    request.layers_directory = plan.layers_directory;
    request.overlay_lower = plan.overlay_lower;
    request.overlay_upper = plan.overlay_upper;
    request.overlay_work = plan.overlay_work;
    request.args = args;
    for (const auto& [name, value] : environment) request.env.push_back(name + "=" + value);
    if (!environment.contains("HOME")) request.env.push_back("HOME=" + user.home);
    request.cwd = state.working_directory();
    request.uid = user.uid;
    request.gid = user.gid;
    request.network = options_.network;
    request.deadline = kStepDeadline;
    if (options_.progress) {
      request.on_output = [this](std::string_view bytes) { options_.progress(std::string(bytes)); };
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
    ORC_ASSIGN(const auto layer, LayerWriter::begin(store_.blobs(), tree));
    const bool overlay = plan.directory.empty();
    ORC_ASSIGN(const Fd root,
               open_file(overlay ? plan.overlay_upper : plan.directory, O_RDONLY | O_DIRECTORY));
    ORC_TRY(overlay ? write_upper(root.get(), tree, *layer) : write_difference(root.get(), tree, *layer));
    if (layer->empty()) return BuiltLayer();
    return layer->finish();
  }

  // --- the result --------------------------------------------------------------------------------------

  Result<BuildResult> commit(const StageState& state) {
    for (const auto& [name, value] : options_.build_args) {
      if (is_proxy_arg(name) || global_.contains(name)) continue;
      const bool declared = std::any_of(states_.begin(), states_.end(),
                                        [&](const auto& item) { return item.second.args().contains(name); });
      if (!declared) result_.warnings.push_back("--build-arg " + name + " is declared by no ARG");
    }
    ORC_TRY(store_.ensure_layers(state.layers(), state.diff_ids(), lease_));
    const std::string config = state.config_json();
    Descriptor config_blob;
    config_blob.media_type = kOciConfig;
    config_blob.size = config.size();
    ORC_ASSIGN(config_blob.digest, store_.blobs().put(config));
    lease_.hold(config_blob.digest);
    ORC_ASSIGN(const std::string manifest, store_.blobs().put(make_manifest(config_blob, state.layers())));
    lease_.hold(manifest);
    NameRecord record;
    record.manifest = manifest;
    if (!options_.tag.empty()) {
      ORC_ASSIGN(const ImageReference reference, ImageReference::parse(options_.tag));
      if (!reference.digest().empty())
        return Error(Error::invalid, "image", "a tag with a digest: " + options_.tag);
      record.name = reference.canonical();
    }
    ORC_TRY(store_.set_name(record));
    ORC_ASSIGN(result_.image, store_.info(record));
    result_.reference = record.name.empty() ? manifest : record.name;
    return std::move(result_);
  }

  Store& store_;
  std::shared_ptr<StepRunner> runner_;
  BuildOptions options_;
  Lease lease_;
  BuildCache cache_;
  std::string file_;
  LayerStack context_;
  IgnoreList ignore_;
  Dockerfile dockerfile_;
  Platform platform_;
  Variables global_;
  std::vector<std::size_t> order_;
  std::map<std::size_t, StageState> states_;
  std::size_t step_ = 0, steps_ = 0;
  BuildResult result_;
};

}  // namespace
}  // namespace orchestra::image

namespace orchestra {

ImageBuilder::ImageBuilder(std::shared_ptr<ImageStore> store, std::shared_ptr<StepRunner> runner)
    : store_(std::move(store)), runner_(std::move(runner)) {}
ImageBuilder::~ImageBuilder() = default;

Pending<BuildResult> ImageBuilder::build(BuildOptions options) {
  // The name is checked before any work is done.
  if (!options.tag.empty()) {
    if (auto reference = ImageReference::parse(options.tag); !reference) return reference.error();
  }
  return image::run_with_store(store_->internal(),
                               [runner = runner_, options = std::move(options)](image::Store& store) {
                                 return image::Build(store, runner, options).run();
                               });
}

}  // namespace orchestra
