// Flags to a JSON request, the request to the store or its owner, the answer to text. See ops.hpp.
#include "image/command.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include "base/control.hpp"
#include "base/exit_status.hpp"
#include "base/fd.hpp"
#include "base/http_client.hpp"
#include "image/registry/credentials.hpp"
#include "net/http/http_server.hpp"
#include "orchestra/image_reference.hpp"

namespace orchestra {
namespace {

constexpr Duration kIdle = std::chrono::hours(1);
constexpr std::size_t kAuthFileBytesMax = 1 << 20;

constexpr const char* kUsage =
    "usage: orchestra image COMMAND [--store DIR | --data DIR]   --data: of the cluster with this data folder\n"
    "  ls [--json] [--digests]                     the images of the store\n"
    "  inspect [--raw|--config|--probe] NAME       what is known of an image, as JSON\n"
    "  import [--name NAME] [--platform P] [--rootfs] PATH|-  docker or OCI archive, OCI layout folder, or\n"
    "                                              a root file system (tar or folder)\n"
    "  export [--format oci|docker|layout] -o FILE|FOLDER NAME..  what other tools load\n"
    "  pull [--platform P|--all-platforms] [TRANSFER] NAME\n"
    "  push [--chunk-bytes N] [TRANSFER] NAME [DESTINATION]\n"
    "       TRANSFER: --creds USER:PASSWORD --authfile F --plain-http --tls-verify=false --ca FILE\n"
    "  login [-u USER] [-p PASSWORD|--password-stdin] [--authfile F] [TRANSFER] HOST\n"
    "  build [-f DOCKERFILE] [-t NAME] [--target STAGE] [--build-arg K=V].. [--platform P].. [--no-cache]\n"
    "        [--secret id=ID,src=FILE].. [--ssh SOCKET] [-o OUTPUT].. [--label K=V].. [--annotation K=V]..\n"
    "        [--cache-from DIR].. [--cache-to DIR] [--progress plain|json] [--explain]\n"
    "        [--isolation best|full|rootless|process] [--network host|none] CONTEXT\n"
    "        OUTPUT: FOLDER, or type=oci|docker|tar|local|registry,dest=WHERE. SOURCE_DATE_EPOCH is read "
    "from\n"
    "        the environment\n"
    "  tag NAME NEW                                a second name\n"
    "  rm NAME..                                   removes names; content goes with gc\n"
    "  gc [--dry-run] [--bytes-max N] [--min-age SECONDS] [--max-age SECONDS]  removes what nothing needs\n"
    "  verify                                      reads everything again and names what is damaged\n"
    "NAME is a reference (busybox:1.36), an id or its first digits. A store in use is asked through its "
    "owner.\n";

struct Flags {
  std::map<std::string, std::string> values;
  std::map<std::string, std::vector<std::string>> repeated;  ///< flags that may be given several times
  std::set<std::string> switches;
  std::vector<std::string> words;
  std::string value(const std::string& name, const std::string& other = "") const {
    const auto found = values.find(name);
    return found == values.end() ? other : found->second;
  }
};

Error usage_error(const std::string& why) { return Error(Error::invalid, "image", why); }

Result<Flags> parse_flags(const std::vector<std::string>& args, const std::set<std::string>& with_value,
                          const std::set<std::string>& switches) {
  static const std::map<std::string, std::string> kShort{
      {"-o", "--output"}, {"-f", "--file"}, {"-t", "--tag"}, {"-u", "--username"}, {"-p", "--password"}};
  Flags out;
  bool only_words = false;
  for (std::size_t i = 0; i < args.size(); ++i) {
    std::string name = args[i];
    if (only_words || !name.starts_with('-') || name == "-") {
      out.words.push_back(name);
      continue;
    }
    if (name == "--") {
      only_words = true;
      continue;
    }
    std::optional<std::string> value;
    if (const std::size_t equals = name.find('='); name.starts_with("--") && equals != std::string::npos) {
      value = name.substr(equals + 1);
      name.resize(equals);
    }
    if (const auto spelled = kShort.find(name); spelled != kShort.end()) name = spelled->second;
    if (switches.contains(name) && !value) {
      out.switches.insert(name);
      continue;
    }
    if (!with_value.contains(name)) return usage_error("unknown flag " + name);
    if (!value) {
      if (i + 1 == args.size()) return usage_error(name + " needs a value");
      value = args[++i];
    }
    out.values[name] = *value;
    out.repeated[name].push_back(*value);
  }
  return out;
}

std::string absolute(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::absolute(path, ignored).lexically_normal().string();
}

std::string human_bytes(std::uint64_t bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(units)) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
  return text;
}

/// "K=V" of a repeated flag.
Result<json::object> pairs_of(const Flags& flags, const std::string& name) {
  json::object out;
  const auto found = flags.repeated.find(name);
  if (found == flags.repeated.end()) return out;
  for (const std::string& text : found->second) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) return usage_error(name + " needs NAME=VALUE");
    out[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return out;
}

json::array values_of(const Flags& flags, const std::string& name, bool path = false) {
  json::array out;
  const auto found = flags.repeated.find(name);
  if (found == flags.repeated.end()) return out;
  for (const std::string& text : found->second) out.push_back(json::value(path ? absolute(text) : text));
  return out;
}

/// "id=ID,src=FILE" -> ID: FILE.
Result<json::object> secrets_of(const Flags& flags) {
  json::object out;
  const auto found = flags.repeated.find("--secret");
  if (found == flags.repeated.end()) return out;
  for (const std::string& text : found->second) {
    std::string id, file;
    for (std::size_t start = 0; start <= text.size();) {
      const std::size_t comma = std::min(text.find(',', start), text.size());
      const std::string part = text.substr(start, comma - start);
      start = comma + 1;
      if (part.starts_with("id=")) id = part.substr(3);
      if (part.starts_with("src=")) file = part.substr(4);
      if (part.starts_with("source=")) file = part.substr(7);
    }
    if (id.empty() || file.empty()) return usage_error("--secret needs id=ID,src=FILE");
    out[id] = absolute(file);
  }
  return out;
}

/// An output's destination relative to where the person stands.
std::string absolute_output(const std::string& text) {
  if (text.find('=') == std::string::npos) return absolute(text);
  const std::size_t at = text.find("dest=");
  if (at == std::string::npos || text.find("type=registry") != std::string::npos) return text;
  const std::size_t end = std::min(text.find(',', at), text.size());
  return text.substr(0, at + 5) + absolute(text.substr(at + 5, end - at - 5)) + text.substr(end);
}

/// One command: how its words become a request.
struct Command {
  std::set<std::string> with_value, switches;
  std::function<Result<json::object>(const Flags&)> request;
};

Result<std::string> one_word(const Flags& flags, const std::string& what) {
  if (flags.words.size() == 1) return flags.words.front();
  return usage_error("needs exactly one " + what);
}

Result<std::int64_t> number_of(const std::string& flag, const std::string& text) {
  if (text.empty() || text.size() > 18 || text.find_first_not_of("0123456789") != std::string::npos)
    return usage_error(flag + " needs a number, got \"" + text + "\"");
  return static_cast<std::int64_t>(std::stoull(text));
}

/// --authfile, else what REGISTRY_AUTH_FILE names, else the usual places; those may be missing.
std::vector<std::string> login_places(const Flags& flags) {
  if (const std::string file = flags.value("--authfile"); !file.empty()) return {file};
  std::vector<std::string> out;
  const auto from = [&out](const char* variable, const char* rest) {
    if (const char* value = std::getenv(variable); value != nullptr && *value != 0)
      out.push_back(std::string(value) + rest);
  };
  from("REGISTRY_AUTH_FILE", "");
  from("XDG_RUNTIME_DIR", "/containers/auth.json");
  from("DOCKER_CONFIG", "/config.json");
  from("HOME", "/.docker/config.json");
  return out;
}

Result<json::array> login_files(const Flags& flags) {
  json::array out;
  for (const std::string& file : login_places(flags)) {
    auto text = read_file(file, kAuthFileBytesMax);
    if (text) out.push_back(json::value(*text));
    if (!text && (!text.error().is(Error::not_found) || flags.values.contains("--authfile")))
      return text.error();
  }
  return out;
}

Result<json::object> transfer_request(const Flags& flags) {
  if (flags.words.empty() || flags.words.size() > 2) return usage_error("needs the name of an image");
  json::object out{{"reference", flags.words.front()}, {"platform", flags.value("--platform")}};
  if (flags.words.size() == 2) out["destination"] = flags.words.back();
  if (const std::string creds = flags.value("--creds"); !creds.empty()) {
    const std::size_t colon = creds.find(':');
    if (colon == std::string::npos) return usage_error("--creds needs USER:PASSWORD");
    out["user"] = creds.substr(0, colon);
    out["password"] = creds.substr(colon + 1);
  }
  ORC_ASSIGN(json::array files, login_files(flags));
  out["login_files"] = std::move(files);
  out["plain_http"] = flags.switches.contains("--plain-http");
  out["all_platforms"] = flags.switches.contains("--all-platforms");
  const std::string verify = flags.value("--tls-verify", "true");
  if (verify != "true" && verify != "false") return usage_error("--tls-verify is true or false");
  out["insecure"] = verify == "false";
  if (const std::string bytes = flags.value("--chunk-bytes"); !bytes.empty()) {
    ORC_ASSIGN(out["chunk_bytes"], number_of("--chunk-bytes", bytes));
  }
  if (const std::string file = flags.value("--ca"); !file.empty()) {
    ORC_ASSIGN(const std::string pem, read_file(file, kAuthFileBytesMax));
    out["ca_pem"] = pem;
  }
  return out;
}

Result<json::object> build_request(const Flags& flags) {
  ORC_ASSIGN(const std::string context, one_word(flags, "context folder"));
  const std::string network = flags.value("--network", "none");
  if (network != "none" && network != "host") return usage_error("--network is host or none");
  ORC_ASSIGN(json::object build_args, pairs_of(flags, "--build-arg"));
  const std::string progress = flags.value("--progress", "plain");
  if (progress != "plain" && progress != "json") return usage_error("--progress is plain or json");
  json::object out{{"context", absolute(context)},
                   {"tag", flags.value("--tag")},
                   {"target", flags.value("--target")},
                   {"no_cache", flags.switches.contains("--no-cache")},
                   {"network", network == "host"}};
  out["build_args"] = std::move(build_args);
  ORC_ASSIGN(out["labels"], pairs_of(flags, "--label"));
  ORC_ASSIGN(out["annotations"], pairs_of(flags, "--annotation"));
  ORC_ASSIGN(out["secrets"], secrets_of(flags));
  json::array platforms;
  for (const json::value& list : values_of(flags, "--platform")) {
    const std::string text(list.as_string());
    for (std::size_t start = 0; start <= text.size();) {
      const std::size_t comma = std::min(text.find(',', start), text.size());
      platforms.push_back(json::value(text.substr(start, comma - start)));
      start = comma + 1;
    }
  }
  out["platforms"] = std::move(platforms);
  json::array outputs;
  for (const json::value& text : values_of(flags, "--output"))
    outputs.push_back(json::value(absolute_output(std::string(text.as_string()))));
  out["outputs"] = std::move(outputs);
  out["cache_from"] = values_of(flags, "--cache-from", true);
  if (const std::string to = flags.value("--cache-to"); !to.empty()) out["cache_to"] = absolute(to);
  if (const std::string ssh = flags.value("--ssh"); !ssh.empty()) {
    const char* agent = std::getenv("SSH_AUTH_SOCK");
    if (ssh == "default" && agent == nullptr) return usage_error("--ssh default needs SSH_AUTH_SOCK");
    out["ssh"] = ssh == "default" ? std::string(agent) : absolute(ssh.substr(ssh.find('=') + 1));
  }
  out["explain"] = flags.switches.contains("--explain");
  if (const char* epoch = std::getenv("SOURCE_DATE_EPOCH"); epoch != nullptr && *epoch != 0) {
    ORC_ASSIGN(out["epoch"], number_of("SOURCE_DATE_EPOCH", epoch));
  }
  if (const std::string file = flags.value("--file"); !file.empty()) out["dockerfile"] = absolute(file);
  return out;
}

Result<json::object> export_request(const Flags& flags) {
  if (flags.words.empty()) return usage_error("needs the name of an image");
  const std::string file = flags.value("--output");
  if (file.empty()) return usage_error("needs -o FILE");
  json::array names;
  for (const std::string& word : flags.words) names.push_back(json::value(word));
  json::object out{{"path", absolute(file)}, {"format", flags.value("--format", "oci")}};
  out["names"] = std::move(names);
  return out;
}

Result<json::object> gc_request(const Flags& flags) {
  json::object out{{"dry_run", flags.switches.contains("--dry-run")}};
  for (const auto& [flag, name] :
       {std::pair{"--bytes-max", "bytes_max"}, std::pair{"--min-age", "minimum_age_s"},
        std::pair{"--max-age", "maximum_age_s"}}) {
    const std::string text = flags.value(flag);
    if (text.empty()) continue;
    ORC_ASSIGN(out[name], number_of(flag, text));
  }
  return out;
}

Result<json::object> login_request(const Flags& flags) {
  ORC_ASSIGN(const std::string host, one_word(flags, "registry host"));
  std::string password = flags.value("--password");
  if (flags.switches.contains("--password-stdin")) {
    ORC_ASSIGN(password, read_file("/dev/stdin", kAuthFileBytesMax));
    while (password.ends_with('\n') || password.ends_with('\r')) password.pop_back();
  }
  if (flags.value("--username").empty() || password.empty())
    return usage_error("login needs -u USER and -p PASSWORD or --password-stdin");
  json::object out{{"host", host}, {"user", flags.value("--username")}, {"password", password}};
  out["plain_http"] = flags.switches.contains("--plain-http");
  out["insecure"] = flags.value("--tls-verify", "true") == "false";
  if (const std::string file = flags.value("--ca"); !file.empty()) {
    ORC_ASSIGN(out["ca_pem"], read_file(file, kAuthFileBytesMax));
  }
  return out;
}

/// A login that the registry took goes into the login file, readable by its owner alone.
Result<std::string> save_login(const Flags& flags, const json::object& request) {
  std::string file = flags.value("--authfile");
  if (file.empty()) {
    const char* config = std::getenv("DOCKER_CONFIG");
    const char* home = std::getenv("HOME");
    if (config == nullptr && home == nullptr)
      return usage_error("the login works, but there is no HOME to keep it in; give --authfile");
    file =
        config != nullptr ? std::string(config) + "/config.json" : std::string(home) + "/.docker/config.json";
  }
  ORC_TRY(make_directories(std::filesystem::path(absolute(file)).parent_path().string(), 0700));
  const auto old = read_file(file, kAuthFileBytesMax);
  if (!old && !old.error().is(Error::not_found)) return old.error();
  const auto text = [&request](const char* name) { return std::string(request.at(name).as_string()); };
  ORC_ASSIGN(const std::string merged,
             image::with_login(old.value_or(""), text("host"), text("user"), text("password")));
  ORC_TRY(replace_file(file, merged, 0600, true));
  return file;
}

const std::map<std::string, Command>& commands() {
  static const std::map<std::string, Command> all{
      {"ls",
       {{}, {"--json", "--digests"}, [](const Flags&) -> Result<json::object> { return json::object(); }}},
      {"inspect",
       {{},
        {"--raw", "--config", "--probe"},
        [](const Flags& flags) -> Result<json::object> {
          ORC_ASSIGN(const std::string name, one_word(flags, "image name"));
          const char* what = flags.switches.contains("--raw")      ? "manifest"
                             : flags.switches.contains("--config") ? "config"
                             : flags.switches.contains("--probe")  ? "probe"
                                                                   : "";
          return json::object{{"name", name}, {"what", what}};
        }}},
      {"import",
       {{"--name", "--platform"},
        {"--rootfs"},
        [](const Flags& flags) -> Result<json::object> {
          ORC_ASSIGN(const std::string path, one_word(flags, "path"));
          return json::object{{"path", absolute(path == "-" ? "/dev/stdin" : path)},
                              {"name", flags.value("--name")},
                              {"platform", flags.value("--platform")},
                              {"root_file_system", flags.switches.contains("--rootfs")}};
        }}},
      {"export", {{"--output", "--format"}, {}, export_request}},
      {"pull",
       {{"--creds", "--authfile", "--platform", "--ca", "--tls-verify"},
        {"--plain-http", "--all-platforms"},
        [](const Flags& flags) -> Result<json::object> {
          ORC_TRY(one_word(flags, "image name"));
          return transfer_request(flags);
        }}},
      {"push",
       {{"--creds", "--authfile", "--ca", "--tls-verify", "--chunk-bytes"},
        {"--plain-http"},
        transfer_request}},
      {"login",
       {{"--username", "--password", "--authfile", "--ca", "--tls-verify"},
        {"--plain-http", "--password-stdin"},
        login_request}},
      {"verify", {{}, {}, [](const Flags&) -> Result<json::object> { return json::object(); }}},
      {"build",
       {{"--file", "--tag", "--target", "--build-arg", "--isolation", "--network", "--platform", "--secret",
         "--ssh", "--output", "--label", "--annotation", "--cache-from", "--cache-to", "--progress"},
        {"--no-cache", "--explain"},
        build_request}},
      {"tag",
       {{},
        {},
        [](const Flags& flags) -> Result<json::object> {
          if (flags.words.size() != 2) return usage_error("needs NAME and NEW");
          return json::object{{"from", flags.words[0]}, {"to", flags.words[1]}};
        }}},
      {"rm",
       {{},
        {},
        [](const Flags& flags) -> Result<json::object> {
          if (flags.words.empty()) return usage_error("needs the name of an image");
          json::array names;
          for (const std::string& word : flags.words) names.push_back(json::value(word));
          json::object out;
          out["names"] = std::move(names);
          return out;
        }}},
      {"gc", {{"--bytes-max", "--min-age", "--max-age"}, {"--dry-run"}, gc_request}},
  };
  return all;
}

/// Prints the answer's lines.
class Printer {
 public:
  Printer(std::string command, const Flags& flags, std::FILE* out, std::FILE* err)
      : command_(std::move(command)), flags_(flags), out_(out), err_(err) {}

  void line(const json::object& line) {
    if (const json::value* problem = line.if_contains("problem");
        problem != nullptr && problem->is_string()) {
      std::fprintf(out_, "%s\n", problem->as_string().c_str());
    } else if (const json::value* counts = line.if_contains("verified"); counts != nullptr) {
      std::fprintf(err_, "verified %s\n", to_json(*counts).c_str());
    } else if (const json::value* progress = line.if_contains("progress");
               progress != nullptr && flags_.value("--progress") == "json") {
      std::fprintf(err_, "%s\n", to_json(line).c_str());
    } else if (const json::value* progress = line.if_contains("progress");
               progress != nullptr && progress->is_string()) {
      std::string text(progress->as_string());
      if (!text.ends_with('\n')) text += '\n';
      std::fputs(text.c_str(), err_);
    } else if (const json::value* text = line.if_contains("text"); text != nullptr && text->is_string()) {
      std::fprintf(out_, "%s\n", text->as_string().c_str());
    } else if (const json::value* removed = line.if_contains("removed");
               removed != nullptr && removed->is_string()) {
      std::fprintf(out_, "removed %s\n", removed->as_string().c_str());
    } else if (const json::value* bytes = line.if_contains("bytes"); bytes != nullptr && bytes->is_number()) {
      const bool dry = flags_.switches.contains("--dry-run");
      std::fprintf(out_, "%s %s\n", dry ? "would free" : "freed",
                   human_bytes(bytes->to_number<std::uint64_t>()).c_str());
    } else if (const json::value* image = line.if_contains("image")) {
      this->image(*image);
    }
  }

  void end() {
    if (command_ != "ls") return;
    if (flags_.switches.contains("--json")) {
      std::fprintf(out_, "%s\n", to_json(json::value(images_)).c_str());
      return;
    }
    const bool digests = flags_.switches.contains("--digests");
    std::vector<std::vector<std::string>> rows{{"NAME", digests ? "DIGEST" : "ID", "PLATFORM", "SIZE"}};
    for (const json::value& one : images_) {
      std::vector<std::string> names;
      if (const json::array* list = array_at(one, "/names")) {
        for (const json::value& name : *list) names.push_back(familiar(std::string(name.as_string())));
      }
      if (names.empty()) names.push_back("<none>");
      const std::string id = string_at(one, digests ? "/digest" : "/id");
      for (const std::string& name : names) {
        rows.push_back({name, digests ? id : id.substr(7, 12),
                        string_at(one, "/os") + "/" + string_at(one, "/architecture"),
                        human_bytes(static_cast<std::uint64_t>(int_at(one, "/bytes")))});
      }
    }
    std::vector<std::size_t> widths(rows[0].size());
    for (const auto& row : rows) {
      for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    for (const auto& row : rows) {
      for (std::size_t i = 0; i + 1 < row.size(); ++i) {
        std::fprintf(out_, "%-*s   ", static_cast<int>(widths[i]), row[i].c_str());
      }
      std::fprintf(out_, "%s\n", row.back().c_str());
    }
  }

 private:
  static std::string familiar(const std::string& name) {
    auto reference = ImageReference::parse(name);
    return reference ? reference->familiar() : name;
  }
  void image(const json::value& image) {
    if (command_ == "ls") {
      images_.push_back(image);
    } else if (command_ == "inspect") {
      std::fprintf(out_, "%s\n", to_pretty_json(image).c_str());
    } else {
      const std::string name = string_at(image, "/reference");
      std::fprintf(out_, "%s %s\n", name.empty() ? "<none>" : familiar(name).c_str(),
                   string_at(image, "/id").c_str());
    }
  }

  std::string command_;
  const Flags& flags_;
  std::FILE *out_, *err_;
  json::array images_;
};

Result<void> run_here(const std::string& command, const Flags& flags, const json::object& request,
                      ImageStoreOptions options, Engine& engine, const ImageCommandSettings& settings,
                      const image::SendLine& send) {
  options.http = make_http_client(engine, proxies_of_environment());
  options.spawner = make_spawner(engine);
  ORC_ASSIGN(const auto store, ImageStore::open(engine, std::move(options)));
  ImageStepRunner steps;
  if (command == "build" && settings.make_steps) {
    auto made = settings.make_steps(engine, flags.value("--isolation", "best"));
    if (made) {
      steps = *made;
    } else {
      // Only RUN needs it; such a step then fails, and this line says why.
      send(json::object{{"progress", "warning: RUN steps cannot run: " + made.error().to_string()}});
    }
  }
  return image::run_image_op(store, steps, request, send);
}

Result<void> run_command(const std::string& name, const Flags& flags, json::object request,
                         const ImageCommandSettings& settings, std::FILE* out, std::FILE* err) {
  request["op"] = "image." + name;
  ImageStoreOptions options;
  const std::string data = flags.value("--data", "");
  options.dir = absolute(data.empty() ? flags.value("--store", settings.store) : data + "/images");
  Printer printer(name, flags, out, err);
  const image::SendLine send = [&printer](const json::object& line) {
    printer.line(line);
    return true;
  };
  EngineOptions engine_options;
  engine_options.log_level = LogLevel::warning;
  engine_options.log_sink = [err](const LogRecord& record) {
    std::fprintf(err, "%s\n", format_log_text(record).c_str());
  };
  Engine engine(engine_options);
  const std::string socket = std::filesystem::path(options.dir).parent_path().string() + "/control.sock";
  auto done = run_here(name, flags, request, std::move(options), engine, settings, send);
  if (!done && done.error().is(Error::busy)) {
    auto owner = ControlClient::connect(socket);
    if (!owner) return done;
    // The owner's standard streams are not ours.
    const json::value* path = request.if_contains("path");
    if (path != nullptr && path->is_string() && path->as_string().starts_with("/dev/std")) {
      return Error(Error::unsupported, "image",
                   "the store is in use by a running process: give a file instead of -");
    }
    done = owner->call(
        request,
        [&printer](const json::object& line) {
          printer.line(line);
          return Result<void>();
        },
        kIdle);
  }
  if (done && name == "login") {
    ORC_ASSIGN(const std::string file, save_login(flags, request));
    std::fprintf(err, "kept in %s\n", file.c_str());
  }
  if (done) printer.end();
  return done;
}

}  // namespace

int run_image_command(const std::vector<std::string>& args, std::FILE* out, std::FILE* err,
                      const ImageCommandSettings& settings) {
  if (args.empty() || args[0] == "help" || args[0] == "--help" || args[0] == "-h") {
    std::fputs(kUsage, args.empty() ? err : out);
    return args.empty() ? 2 : 0;
  }
  // --store and --data may stand before the command.
  std::vector<std::string> rest(args.begin() + 1, args.end());
  std::string name = args[0];
  if ((name == "--store" || name == "--data") && args.size() >= 3) {
    rest.assign(args.begin() + 3, args.end());
    rest.insert(rest.begin(), {name, args[1]});
    name = args[2];
  }
  const auto command = commands().find(name);
  if (command == commands().end()) {
    std::fprintf(err, "orchestra image: unknown command %s\n%s", name.c_str(), kUsage);
    return 2;
  }
  if (std::find(rest.begin(), rest.end(), "--help") != rest.end()) {
    std::fputs(kUsage, out);
    return 0;
  }
  std::set<std::string> with_value = command->second.with_value;
  with_value.insert({"--store", "--data"});
  auto flags = parse_flags(rest, with_value, command->second.switches);
  auto request = flags ? command->second.request(*flags) : Result<json::object>(flags.error());
  if (!request) {
    std::fprintf(err, "orchestra image %s: %s\n%s", name.c_str(), request.error().message().c_str(), kUsage);
    return 2;
  }
  auto done = run_command(name, *flags, std::move(*request), settings, out, err);
  if (done) return 0;
  std::fprintf(err, "orchestra image %s: %s\n", name.c_str(), done.error().to_string().c_str());
  return exit_status(done.error());
}

}  // namespace orchestra
