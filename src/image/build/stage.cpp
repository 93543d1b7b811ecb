// The configuration instructions, on the JSON document of the image itself: what a base image says beyond
// our knowledge stays as it is.
#include "image/build/stage.hpp"

#include <algorithm>
#include <charconv>
#include <ctime>

#include "image/build/copy_plan.hpp"
#include "image/digest.hpp"

namespace orchestra::image {
namespace {

constexpr int kExposedPortsMax = 1000;

Error bad(const std::string& why) { return Error(Error::invalid, "image", why); }

/// "90s", "1m30s", "1h", "500ms" -> nanoseconds, as Go's time.ParseDuration.
std::optional<std::int64_t> parse_duration(std::string_view text) {
  std::int64_t total = 0;
  if (text.empty()) return std::nullopt;
  while (!text.empty()) {
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || number < 0 || number > 1'000'000) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    std::int64_t unit = 0;
    for (const auto& [name, value] : {std::pair<std::string_view, std::int64_t>{"ms", 1'000'000},
                                      {"us", 1'000},
                                      {"ns", 1},
                                      {"h", 3'600'000'000'000},
                                      {"m", 60'000'000'000},
                                      {"s", 1'000'000'000}}) {
      if (!text.starts_with(name)) continue;
      unit = value;
      text.remove_prefix(name.size());
      break;
    }
    if (unit == 0) return std::nullopt;
    total += number * unit;
  }
  return total;
}

json::array list_of(const std::vector<std::string>& values) {
  json::array out;
  for (const std::string& value : values) out.push_back(json::value(value));
  return out;
}

}  // namespace

StageState::StageState(const Platform& platform) {
  root_.as_object()["architecture"] = platform.architecture;
  if (!platform.variant.empty()) root_.as_object()["variant"] = platform.variant;
  root_.as_object()["os"] = platform.os;
  root_.as_object()["config"] =
      json::object{{"Env", json::array{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}}};
  root_.as_object()["history"] = json::array();
  key_ = sha256_digest("scratch " + platform.text());
}

Result<StageState> StageState::from_image(std::string_view config, const Manifest& manifest,
                                          const ImageConfig& parsed) {
  StageState out;
  ORC_ASSIGN(json::value root, parse_json(config));
  out.root_ = std::move(root);
  if (!out.root_.is_object()) return bad("the base image's configuration is no object");
  // Facts of the build that made the base.
  for (const char* name : {"created", "container", "container_config", "docker_version", "id", "parent"}) {
    out.root_.as_object().erase(name);
  }
  if (!object_at(out.root_, "/config")) out.root_.as_object()["config"] = json::object();
  if (!array_at(out.root_, "/history")) out.root_.as_object()["history"] = json::array();
  out.layers_ = manifest.layers;
  for (Descriptor& layer : out.layers_) {
    // The same bytes under the OCI name: our manifest is an OCI manifest.
    if (layer.media_type == kDockerLayerGzip) layer.media_type = kOciLayerGzip;
  }
  out.diff_ids_ = parsed.diff_ids;
  out.key_ = sha256_digest(config);
  return out;
}

StageState StageState::child() const {
  StageState out = *this;
  out.command_set_ = false;
  return out;
}

json::object& StageState::config() { return root_.as_object()["config"].as_object(); }
const json::object& StageState::config() const { return root_.as_object().at("config").as_object(); }

void StageState::set_list(const char* name, const std::vector<std::string>& values) {
  config()[name] = list_of(values);
}

bool StageState::is_configuration(std::string_view name) {
  for (const std::string_view known : {"ENV", "LABEL", "USER", "CMD", "ENTRYPOINT", "EXPOSE", "VOLUME",
                                       "SHELL", "STOPSIGNAL", "HEALTHCHECK", "ONBUILD", "MAINTAINER"}) {
    if (name == known) return true;
  }
  return false;
}

Result<void> StageState::configure(const Instruction& instruction, char escape) {
  const std::string& name = instruction.name;
  if (name == "ENV") return set_env(instruction, escape);
  if (name == "LABEL") return set_labels(instruction, escape);
  if (name == "CMD" || name == "ENTRYPOINT") return set_command(instruction);
  if (name == "EXPOSE") return expose(instruction, escape);
  if (name == "HEALTHCHECK") return set_health_check(instruction, escape);
  if (name == "SHELL") {
    set_list("Shell", *instruction.exec);
    return {};
  }
  if (name == "ONBUILD") {
    json::value& triggers = config()["OnBuild"];
    if (!triggers.is_array()) triggers = json::array();
    triggers.as_array().push_back(json::value(instruction.rest));
    return {};
  }
  if (name == "VOLUME") {
    json::value& volumes = config()["Volumes"];
    if (!volumes.is_object()) volumes = json::object();
    for (const std::string& word :
         instruction.exec ? *instruction.exec : split_words(instruction.rest, escape)) {
      ORC_ASSIGN(const std::string path, expand_word(word, variables(), escape));
      if (path.empty()) return bad("VOLUME needs a path");
      volumes.as_object()[path] = json::object();
    }
    return {};
  }
  ORC_ASSIGN(const std::string value, expand_word(instruction.rest, variables(), escape));
  if (value.empty()) return bad(name + " is empty after its variables were put in");
  if (name == "USER") config()["User"] = value;
  if (name == "STOPSIGNAL") config()["StopSignal"] = value;
  if (name == "MAINTAINER") root_.as_object()["author"] = value;
  return {};
}

Result<void> StageState::set_env(const Instruction& instruction, char escape) {
  ORC_ASSIGN(const auto pairs, split_assignments(instruction, escape));
  // All values of one line see the variables as they were before it.
  const Variables before = variables();
  std::vector<std::string> all = env();
  for (const auto& [raw_name, raw_value] : pairs) {
    ORC_ASSIGN(const std::string name, expand_word(raw_name, before, escape));
    ORC_ASSIGN(const std::string value, expand_word(raw_value, before, escape));
    if (name.empty()) return bad("ENV with an empty name");
    const auto same =
        std::find_if(all.begin(), all.end(), [&](const auto& item) { return item.starts_with(name + "="); });
    if (same != all.end()) {
      *same = name + "=" + value;
    } else {
      all.push_back(name + "=" + value);
    }
  }
  set_list("Env", all);
  return {};
}

Result<void> StageState::set_labels(const Instruction& instruction, char escape) {
  ORC_ASSIGN(const auto pairs, split_assignments(instruction, escape));
  json::value& labels = config()["Labels"];
  if (!labels.is_object()) labels = json::object();
  const Variables now = variables();
  for (const auto& [raw_name, raw_value] : pairs) {
    ORC_ASSIGN(const std::string name, expand_word(raw_name, now, escape));
    ORC_ASSIGN(const std::string value, expand_word(raw_value, now, escape));
    labels.as_object()[name] = value;
  }
  return {};
}

Result<void> StageState::set_command(const Instruction& instruction) {
  std::vector<std::string> words;
  if (instruction.exec) {
    words = *instruction.exec;
  } else if (!instruction.rest.empty()) {
    words = shell();
    words.push_back(instruction.rest);
  }
  if (instruction.name == "CMD") {
    set_list("Cmd", words);
    command_set_ = true;
  } else {
    set_list("Entrypoint", words);
    // A new entry point does not go with the base image's command.
    if (!command_set_) config().erase("Cmd");
  }
  return {};
}

Result<void> StageState::expose(const Instruction& instruction, char escape) {
  json::value& ports = config()["ExposedPorts"];
  if (!ports.is_object()) ports = json::object();
  for (const std::string& word : split_words(instruction.rest, escape)) {
    ORC_ASSIGN(const std::string text, expand_word(word, variables(), escape));
    const std::size_t slash = text.find('/');
    const std::string protocol = slash == std::string::npos ? "tcp" : text.substr(slash + 1);
    const std::string range = text.substr(0, slash);
    const std::size_t dash = range.find('-');
    int first = 0, last = 0;
    const auto number = [](const std::string& digits, int& out) {
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
      return error == std::errc() && end == digits.data() + digits.size() && out > 0 && out < 65536;
    };
    const bool good = number(range.substr(0, dash), first) &&
                      number(dash == std::string::npos ? range : range.substr(dash + 1), last) &&
                      first <= last && last - first < kExposedPortsMax;
    if (!good || (protocol != "tcp" && protocol != "udp" && protocol != "sctp")) {
      return bad("EXPOSE \"" + text + "\" is not PORT[-PORT][/tcp|udp|sctp]");
    }
    for (int port = first; port <= last; ++port) {
      ports.as_object()[std::to_string(port) + "/" + protocol] = json::object();
    }
  }
  return {};
}

Result<void> StageState::set_health_check(const Instruction& instruction, char escape) {
  json::object check;
  if (split_words(instruction.rest, escape) == std::vector<std::string>{"NONE"}) {
    check["Test"] = json::array{"NONE"};
  } else {
    std::string_view rest = instruction.rest;
    if (!rest.starts_with("CMD") || rest.size() < 4) return bad("HEALTHCHECK needs NONE or CMD COMMAND");
    rest.remove_prefix(3);
    while (!rest.empty() && (rest.front() == ' ' || rest.front() == '\t')) rest.remove_prefix(1);
    json::array test;
    const auto parsed = parse_json(rest);
    if (parsed && parsed->is_array()) {
      test.push_back("CMD");
      for (const json::value& item : parsed->as_array()) test.push_back(item);
    } else {
      test = {"CMD-SHELL", json::value(std::string(rest))};
    }
    check["Test"] = std::move(test);
    for (const auto& [flag, key] :
         {std::pair{"interval", "Interval"}, std::pair{"timeout", "Timeout"},
          std::pair{"start-period", "StartPeriod"}, std::pair{"start-interval", "StartInterval"}}) {
      const std::string* text = instruction.flag(flag);
      if (text == nullptr) continue;
      const auto duration = parse_duration(*text);
      if (!duration)
        return bad(std::string("HEALTHCHECK --") + flag + "=" + *text + " is no duration like 30s");
      check[key] = *duration;
    }
    if (const std::string* retries = instruction.flag("retries")) {
      int count = 0;
      const auto [end, error] = std::from_chars(retries->data(), retries->data() + retries->size(), count);
      if (error != std::errc() || end != retries->data() + retries->size() || count < 1) {
        return bad("HEALTHCHECK --retries=" + *retries + " is no count");
      }
      check["Retries"] = count;
    }
  }
  config()["Healthcheck"] = std::move(check);
  return {};
}

Result<void> StageState::declare_args(const Instruction& instruction, char escape, const Variables& given,
                                      const Variables& global) {
  ORC_ASSIGN(const auto pairs, split_assignments(instruction, escape));
  for (const auto& [name, raw_value] : pairs) {
    const bool has_default = instruction.rest.find(name + "=") != std::string::npos;
    if (const auto value = given.find(name); value != given.end()) {
      args_[name] = value->second;
    } else if (has_default) {
      ORC_ASSIGN(args_[name], expand_word(raw_value, variables(), escape));
    } else if (const auto outer = global.find(name); outer != global.end()) {
      args_[name] = outer->second;
    }
  }
  return {};
}

Variables StageState::variables() const {
  Variables out = args_;
  for (const std::string& item : env()) {
    const std::size_t equals = item.find('=');
    if (equals != std::string::npos) out[item.substr(0, equals)] = item.substr(equals + 1);
  }
  return out;
}

std::vector<std::string> StageState::env() const {
  std::vector<std::string> out;
  if (const json::array* items = array_at(root_, "/config/Env")) {
    for (const json::value& item : *items) {
      if (item.is_string()) out.emplace_back(item.as_string());
    }
  }
  return out;
}

std::string StageState::user() const { return string_at(root_, "/config/User"); }

std::string StageState::working_directory() const {
  const std::string path = string_at(root_, "/config/WorkingDir");
  return path.empty() ? "/" : path;
}
void StageState::set_working_directory(const std::string& path) { config()["WorkingDir"] = path; }

std::vector<std::string> StageState::shell() const {
  std::vector<std::string> out;
  if (const json::array* items = array_at(root_, "/config/Shell")) {
    for (const json::value& item : *items) {
      if (item.is_string()) out.emplace_back(item.as_string());
    }
  }
  if (out.empty()) out = {"/bin/sh", "-c"};
  return out;
}

std::vector<std::string> StageState::take_on_build() {
  std::vector<std::string> out;
  if (const json::array* items = array_at(root_, "/config/OnBuild")) {
    for (const json::value& item : *items) {
      if (item.is_string()) out.emplace_back(item.as_string());
    }
  }
  config().erase("OnBuild");
  return out;
}

void StageState::set_created(std::optional<std::int64_t> epoch) {
  if (!epoch) return;
  const std::time_t seconds = static_cast<std::time_t>(*epoch);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  created_ = text;
  root_.as_object()["created"] = created_;
}

void StageState::add_label(const std::string& name, const std::string& value) {
  json::value& labels = config()["Labels"];
  if (!labels.is_object()) labels = json::object();
  labels.as_object()[name] = value;
}

void StageState::add_layer(const BuiltLayer& layer, const std::string& created_by) {
  layers_.push_back(layer.blob);
  diff_ids_.push_back(layer.diff_id);
  json::object entry{{"created_by", created_by}};
  if (!created_.empty()) entry["created"] = created_;
  root_.as_object()["history"].as_array().push_back(std::move(entry));
}

void StageState::add_history(const std::string& created_by) {
  json::object entry{{"created_by", created_by}, {"empty_layer", true}};
  if (!created_.empty()) entry["created"] = created_;
  root_.as_object()["history"].as_array().push_back(std::move(entry));
}

std::string StageState::next_key(const std::string& parent, const std::vector<std::string>& parts) {
  Hasher hasher;
  hasher.update(parent);
  for (const std::string& part : parts) hasher.update(std::to_string(part.size()) + ":" + part);
  return hasher.finish();
}
void StageState::advance_key(const std::vector<std::string>& parts) { key_ = next_key(key_, parts); }

std::string StageState::config_json() const {
  json::object out = root_.as_object();
  out["rootfs"] = json::object{{"type", "layers"}, {"diff_ids", list_of(diff_ids_)}};
  return to_json(out);
}

}  // namespace orchestra::image
