#pragma once
// StageState: an image while it is being built: its configuration, layers and cache key. Pure but for the
// JSON library; the builder (builder.cpp) is the shell that reads files and runs steps.
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "image/build/dockerfile.hpp"
#include "image/build/layer_writer.hpp"
#include "image/manifest.hpp"

namespace orchestra::image {

class StageState {
 public:
  /// FROM scratch.
  explicit StageState(const Platform& platform);
  /// FROM an image: its configuration as stored, and its layers.
  static Result<StageState> from_image(std::string_view config, const Manifest& manifest,
                                       const ImageConfig& parsed);

  /// FROM this stage.
  StageState child() const;

  /// Instructions that only change the configuration: ENV LABEL USER CMD ENTRYPOINT EXPOSE VOLUME SHELL
  /// STOPSIGNAL HEALTHCHECK ONBUILD MAINTAINER. Expands variables; errors have no line yet.
  Result<void> configure(const Instruction& instruction, char escape);
  static bool is_configuration(std::string_view name);

  /// ARG in the stage. `given` are --build-arg values, `global` those of ARG before FROM.
  Result<void> declare_args(const Instruction& instruction, char escape, const Variables& given,
                            const Variables& global);

  /// What $x means now: declared ARGs, then ENV over them.
  Variables variables() const;
  std::vector<std::string> env() const;
  const Variables& args() const { return args_; }
  std::string user() const;
  std::string working_directory() const;
  void set_working_directory(const std::string& path);
  std::vector<std::string> shell() const;
  /// Triggers of ONBUILD in the base image; taken once.
  std::vector<std::string> take_on_build();

  /// Seconds since 1970 of `created` and of the history from now on (SOURCE_DATE_EPOCH); none: no times.
  void set_created(std::optional<std::int64_t> epoch);
  void add_label(const std::string& name, const std::string& value);
  void add_layer(const BuiltLayer& layer, const std::string& created_by);
  void add_history(const std::string& created_by);
  /// The cache key goes on: parent, then these parts.
  void advance_key(const std::vector<std::string>& parts);
  static std::string next_key(const std::string& parent, const std::vector<std::string>& parts);
  const std::string& key() const { return key_; }

  const std::vector<Descriptor>& layers() const { return layers_; }
  const std::vector<std::string>& diff_ids() const { return diff_ids_; }
  /// The configuration document.
  std::string config_json() const;

 private:
  StageState() = default;
  json::object& config();
  const json::object& config() const;
  void set_list(const char* name, const std::vector<std::string>& values);
  Result<void> set_env(const Instruction& instruction, char escape);
  Result<void> set_labels(const Instruction& instruction, char escape);
  Result<void> set_command(const Instruction& instruction);
  Result<void> expose(const Instruction& instruction, char escape);
  Result<void> set_health_check(const Instruction& instruction, char escape);

  json::value root_ = json::object();  ///< the document; always an object
  std::vector<Descriptor> layers_;
  std::vector<std::string> diff_ids_;
  Variables args_;
  std::string key_;
  bool command_set_ = false;
  std::string created_;  ///< RFC 3339, or empty
};

}  // namespace orchestra::image
