#pragma once
// PlatformBuild: one Dockerfile built for one platform: stages in order of need, instructions one by one.
//
// Unused stages are skipped, independent ones run beside each other. Each step has a key (parent key and all
// that decides its result); a step that makes files looks its layer up by key before it does anything. A
// failing step names file, line and instruction, and the end of its output. Nothing stays behind but content
// that the next collection removes.
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/http_client.hpp"
#include "image/build/build_cache.hpp"
#include "image/build/copy_plan.hpp"
#include "image/build/dockerfile.hpp"
#include "image/build/run_mounts.hpp"
#include "image/build/stage.hpp"
#include "image/build/tree_diff.hpp"
#include "image/store.hpp"
#include "image/user.hpp"
#include "orchestra/image_builder.hpp"

namespace orchestra::image {

/// What one platform's build gave; its content is in the store.
struct BuiltPlatform {
  Platform platform;
  Descriptor manifest;
  std::vector<Descriptor> layers;
  std::vector<std::string> diff_ids;
};

/// Proxy settings: known without ARG, never part of a key.
bool is_proxy_arg(const std::string& name);

class PlatformBuild {
 public:
  PlatformBuild(Store& store, std::shared_ptr<StepRunner> runner, const BuildOptions& options,
                Platform platform, BuildCache& cache, Lease& lease);
  Result<BuiltPlatform> run();

  std::size_t steps() const { return steps_done_; }
  std::size_t cached() const { return steps_cached_; }
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  // Inputs and order (platform_build.cpp)
  Result<void> read_inputs();
  Result<void> declare_global_args();
  Result<std::size_t> find_target() const;
  std::optional<std::size_t> find_stage(const std::string& text, std::size_t end) const;
  std::optional<std::size_t> find_stage_by_name(const std::string& text, std::size_t end) const;
  Result<void> plan_stages(std::size_t target);
  Result<void> run_stages();
  Error at(const Instruction& instruction, const Error& error, BuildFailure failure = {}) const;
  void say(const std::string& line) const;
  void say_step(const std::string& text, bool cached = false);

  Result<void> run_stage(std::size_t index);
  Result<StageState> begin_stage(const Stage& stage, std::size_t index);
  Result<std::shared_ptr<const LoadedImage>> load_image(const std::string& name);
  Result<LayerStack> open_tree(const StageState& state);
  Result<void> run_instruction(StageState& state, const Instruction& instruction, std::size_t index);
  Result<void> dispatch(StageState& state, const Instruction& instruction, std::size_t index);
  Result<void> working_directory(StageState& state, const Instruction& instruction);
  Result<BuiltPlatform> commit(StageState& state);
  /// Takes the layer of the key from the cache, or makes it.
  using Parts = BuildCache::Parts;
  Result<void> layer_step(StageState& state, const Instruction& instruction, const Parts& parts,
                          const std::function<Result<BuiltLayer>()>& make);
  Result<std::unique_ptr<LayerWriter>> begin_layer(const LayerStack& below);
  static Result<ImageUser> find_user_in(const LayerStack& tree, const std::string& user);

  // COPY and ADD (copy_step.cpp)
  Result<void> copy(StageState& state, const Instruction& instruction, std::size_t index);
  Result<void> set_attributes_of(const Instruction& instruction, const Variables& variables,
                                 const LayerStack& tree, CopySpec& spec);
  Result<LayerStack> open_source(const std::string& name, std::size_t index);
  Result<LayerStack> fetch_source(const Instruction& instruction, const Variables& variables, CopySpec& spec,
                                  const std::string& folder);
  Result<LayerStack> write_heredocs(const Instruction& instruction, const Variables& variables,
                                    const std::string& folder);

  // RUN (run_step.cpp)
  Result<void> run_command(StageState& state, const Instruction& instruction, std::size_t index);
  struct RunStep;
  Result<BuiltLayer> run_step(StageState& state, const Instruction& instruction, const RunStep& step);
  Result<BuiltLayer> run_in(const MountPlan& plan, const LayerStack& tree, const std::string& id,
                            StageState& state, const Instruction& instruction, const RunStep& step);
  Result<void> add_mount_keys(const MountSpec& mount, std::size_t index, Parts& parts);
  Result<std::string> mount_folder(const std::string& from, std::size_t index, const std::string& scratch);
  std::string scratch_folder();

  Store& store_;
  std::shared_ptr<StepRunner> runner_;
  const BuildOptions& options_;
  const Platform platform_;
  BuildCache& cache_;
  Lease& lease_;
  std::string file_;
  LayerStack context_;
  IgnoreList ignore_;
  Dockerfile dockerfile_;
  Variables global_;
  std::set<std::size_t> needed_;
  std::vector<std::vector<std::size_t>> waves_;              ///< stages that need only earlier waves
  std::map<std::size_t, std::optional<StageState>> states_;  ///< one slot per needed stage, made before
  mutable std::mutex mutex_;                                 ///< what follows, and progress lines
  std::size_t steps_ = 0, steps_done_ = 0, steps_cached_ = 0;
  std::vector<std::string> warnings_;
};

}  // namespace orchestra::image
