// COPY and ADD of a build: from the context, stages, images, heredocs, URLs and git; see platform_build.hpp.
#include <fcntl.h>

#include <algorithm>

#include "image/build/platform_build.hpp"
#include "image/build/remote_source.hpp"
#include "orchestra/env.hpp"

namespace orchestra::image {
namespace {

bool is_on(const Instruction& instruction, const char* flag) {
  const std::string* value = instruction.flag(flag);
  return value != nullptr && *value != "false";
}

/// A folder that goes with the scope.
struct Scratch {
  explicit Scratch(std::string where) : path(std::move(where)) {}
  ~Scratch() { (void)remove_tree(path); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  std::string path;
};

}  // namespace

Result<void> PlatformBuild::copy(StageState& state, const Instruction& instruction, std::size_t index) {
  const Variables variables = state.variables();
  const char escape = dockerfile_.escape;
  std::vector<std::string> words;
  for (const std::string& word :
       instruction.exec ? *instruction.exec : split_words(instruction.rest, escape)) {
    if (word.starts_with("<<") && !instruction.heredocs.empty()) continue;
    ORC_ASSIGN(std::string value, expand_word(word, variables, escape));
    if (value.empty()) return Error(Error::invalid, "image", "an empty path");
    words.push_back(std::move(value));
  }
  const bool linked = is_on(instruction, "link");
  ORC_ASSIGN(const LayerStack tree, open_tree(state));
  const LayerStack nothing;
  CopySpec spec;
  // --link: the layer is the same whatever lies below, so nothing below is looked at.
  spec.image = linked ? &nothing : &tree;
  spec.destination = words.back();
  words.pop_back();
  spec.working_directory = state.working_directory();
  spec.files_max = options_.context_files_max;
  spec.unpack_archives = instruction.name == "ADD";
  spec.parents = is_on(instruction, "parents");
  spec.engine = &store_.engine();
  std::string excluded;
  for (const std::string& pattern : instruction.flags_of("exclude")) excluded += pattern + "\n";
  spec.exclude = IgnoreList(excluded);
  spec.sources = std::move(words);
  ORC_TRY(set_attributes_of(instruction, variables, tree, spec));

  const Scratch scratch(scratch_folder());
  const bool is_remote = spec.unpack_archives &&
                         std::any_of(spec.sources.begin(), spec.sources.end(), [](const std::string& one) {
                           return kind_of_source(one) != SourceKind::local;
                         });
  LayerStack other;
  if (!instruction.heredocs.empty()) {
    if (!spec.sources.empty())
      return Error(Error::unsupported, "image", "heredocs and files in one " + instruction.name);
    ORC_ASSIGN(other, write_heredocs(instruction, variables, scratch.path));
    for (const Heredoc& document : instruction.heredocs) spec.sources.push_back(document.name);
    spec.unpack_archives = false;
    spec.source = &other;
  } else if (is_remote) {
    ORC_ASSIGN(other, fetch_source(instruction, variables, spec, scratch.path));
    spec.source = &other;
    spec.remote = true;
  } else if (const std::string* from = instruction.flag("from")) {
    ORC_ASSIGN(const std::string name, expand_word(*from, variables, escape));
    ORC_ASSIGN(other, open_source(name, index));
    spec.source = &other;
    spec.keep_owner = true;
  } else {
    spec.source = &context_;
    spec.ignore = &ignore_;
    spec.hashes = &store_.file_hashes();
  }
  ORC_ASSIGN(const CopyPlan plan, plan_copy(spec));
  const Parts parts{{"the instruction", instruction.name + (linked ? " --link" : "")},
                    {"the files", plan.digest}};
  return layer_step(state, instruction, parts, [&]() -> Result<BuiltLayer> {
    ORC_ASSIGN(const auto layer, begin_layer(*spec.image));
    if (linked) layer->omit_parents();
    ORC_TRY(write_copy(plan, spec, *layer));
    if (layer->empty()) return BuiltLayer();
    return layer->finish();
  });
}

/// Inline files, expanded unless their word was quoted.
Result<LayerStack> PlatformBuild::write_heredocs(const Instruction& instruction, const Variables& variables,
                                                 const std::string& folder) {
  ORC_TRY(make_directories(folder, 0700));
  for (const Heredoc& document : instruction.heredocs) {
    std::string content = document.content;
    if (document.expand) {
      ORC_ASSIGN(content, expand_text(document.content, variables, dockerfile_.escape));
    }
    const std::string path = folder + "/" + document.name;
    ORC_TRY(write_file(path, content, 0644));
    // What the file says decides the layer, not when it was written.
    const timespec then[2] = {{options_.source_date_epoch.value_or(0), 0},
                              {options_.source_date_epoch.value_or(0), 0}};
    if (::chmod(path.c_str(), 0644) != 0 || ::utimensat(AT_FDCWD, path.c_str(), then, 0) != 0)
      return system_error("image", "utimensat", path, errno);
  }
  return LayerStack::open({folder});
}

/// ADD of one URL or repository.
Result<LayerStack> PlatformBuild::fetch_source(const Instruction& instruction, const Variables& variables,
                                               CopySpec& spec, const std::string& folder) {
  if (spec.sources.size() != 1) {
    return Error(Error::unsupported, "image",
                 "ADD of a URL takes one source; write one ADD for each of the " +
                     std::to_string(spec.sources.size()));
  }
  const std::string source = spec.sources.front();
  std::string checksum;
  if (const std::string* text = instruction.flag("checksum")) {
    ORC_ASSIGN(checksum, expand_word(*text, variables, dockerfile_.escape));
  }
  ORC_TRY(make_directories(folder, 0700));
  RemoteSource fetched;
  if (kind_of_source(source) == SourceKind::git) {
    if (!store_.options().spawner)
      return Error(Error::unsupported, "image",
                   "ADD " + source + ": this store was opened without a way to start git");
    ORC_ASSIGN(fetched, fetch_git(*store_.options().spawner, source, is_on(instruction, "keep-git-dir"),
                                  folder + "/git"));
  } else {
    if (!store_.options().http)
      return Error(Error::unsupported, "image",
                   "ADD " + source + ": this store was opened without an HTTP client");
    ORC_ASSIGN(fetched, fetch_url(*store_.options().http, source, checksum, folder + "/url"));
    const std::string file = fetched.folder + "/" + fetched.name;
    const timespec then[2] = {{0, 0}, {0, 0}};
    if (::utimensat(AT_FDCWD, file.c_str(), then, 0) != 0)
      return system_error("image", "utimensat", file, errno);
  }
  // A fetched archive stays one, unless it shall be unpacked.
  spec.unpack_archives = is_on(instruction, "unpack");
  spec.sources = {fetched.name.empty() ? "." : fetched.name};
  return LayerStack::open({fetched.folder});
}

/// --chown and --chmod.
Result<void> PlatformBuild::set_attributes_of(const Instruction& instruction, const Variables& variables,
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

/// COPY --from: an earlier stage by name or number, else an image.
Result<LayerStack> PlatformBuild::open_source(const std::string& name, std::size_t index) {
  if (const auto stage = find_stage(name, index)) return open_tree(*states_.at(*stage));
  ORC_ASSIGN(const auto image, load_image(name));
  ORC_ASSIGN(const auto layers, store_.ensure_layers(*image, lease_));
  std::vector<std::uint64_t> numbers;
  for (const LayerRecord& layer : layers) numbers.push_back(layer.number);
  return store_.open_layers(numbers);
}

}  // namespace orchestra::image
