// The operations, see ops.hpp. They wait for their work: callers are workers or programs, never event
// threads.
#include "image/ops.hpp"

#include <algorithm>

#include "base/control.hpp"
#include "image/build/output.hpp"
#include "image/registry/hosts.hpp"
#include "orchestra/image_builder.hpp"

namespace orchestra::image {
namespace {

constexpr Duration kDeadline = std::chrono::hours(4);

json::array list_of(const std::vector<std::string>& values) {
  json::array out;
  for (const std::string& value : values) out.push_back(json::value(value));
  return out;
}

/// Members of the request; missing or of another type: empty.
class Request {
 public:
  explicit Request(const json::object& object) : object_(object) {}
  std::string text(std::string_view name) const {
    const json::value* found = object_.if_contains(name);
    return found != nullptr && found->is_string() ? std::string(found->as_string()) : std::string();
  }
  bool flag(std::string_view name) const {
    const json::value* found = object_.if_contains(name);
    return found != nullptr && found->is_bool() && found->as_bool();
  }
  std::optional<std::uint64_t> number(std::string_view name) const {
    const json::value* found = object_.if_contains(name);
    if (found == nullptr || !found->is_int64() || found->as_int64() < 0) return std::nullopt;
    return static_cast<std::uint64_t>(found->as_int64());
  }
  std::vector<std::string> texts(std::string_view name) const {
    std::vector<std::string> out;
    const json::value* found = object_.if_contains(name);
    if (found == nullptr || !found->is_array()) return out;
    for (const json::value& item : found->as_array()) {
      if (item.is_string()) out.emplace_back(item.as_string());
    }
    return out;
  }
  std::map<std::string, std::string> map(std::string_view name) const {
    std::map<std::string, std::string> out;
    const json::value* found = object_.if_contains(name);
    if (found == nullptr || !found->is_object()) return out;
    for (const auto& [key, value] : found->as_object()) {
      if (value.is_string()) out[std::string(key)] = std::string(value.as_string());
    }
    return out;
  }

 private:
  const json::object& object_;
};

struct Operation {
  const std::shared_ptr<ImageStore>& store;
  const ImageStepRunner& steps;
  Request request;
  const SendLine& send;

  std::function<void(const std::string&)> progress() const {
    return [send = send](const std::string& line) { send(json::object{{"progress", line}}); };
  }
  void send_image(const ImageInfo& info) const { send(json::object{{"image", describe_image(info)}}); }
};

Result<void> list_images(const Operation& op) {
  ORC_ASSIGN(const auto images, op.store->list());
  for (const ImageInfo& image : images) op.send_image(image);
  return {};
}

Result<void> inspect(const Operation& op) {
  const std::string name = op.request.text("name"), what = op.request.text("what");
  if (what == "manifest" || what == "config") {
    ORC_ASSIGN(const std::string text,
               what == "manifest" ? op.store->raw_manifest(name) : op.store->raw_config(name));
    op.send(json::object{{"text", text}});
    return {};
  }
  ORC_ASSIGN(const auto image, op.store->lookup(name));
  if (!image) return Error(Error::not_found, "image", "no image \"" + name + "\" in the store");
  if (what == "probe") {
    if (image->health_check.test.empty())
      return Error(Error::not_found, "image", name + " has no HEALTHCHECK");
    op.send(json::object{{"text", to_pretty_json(probe_of(image->health_check))}});
    return {};
  }
  op.send_image(*image);
  return {};
}

Result<void> remove(const Operation& op) {
  for (const std::string& name : op.request.texts("names")) {
    ORC_ASSIGN(const auto image, op.store->lookup(name));
    ORC_TRY(op.store->remove(name));
    op.send(json::object{{"removed", name}});
    // Only the name went where a root still uses the content.
    ORC_ASSIGN(const auto roots, op.store->internal()->snapshots());
    for (const SnapshotRecord& root : roots) {
      if (!image || root.image != image->digest) continue;
      op.send(json::object{{"progress", "its content stays: root " + root.owner + " uses it"}});
      break;
    }
  }
  return {};
}

Result<void> tag(const Operation& op) {
  ORC_ASSIGN(const ImageInfo image, op.store->tag(op.request.text("from"), op.request.text("to")));
  op.send_image(image);
  return {};
}

Result<void> import(const Operation& op) {
  ImportOptions options;
  options.name = op.request.text("name");
  options.platform = op.request.text("platform");
  options.root_file_system = op.request.flag("root_file_system");
  ORC_ASSIGN(const ImportReport report, op.store->import(op.request.text("path"), options).wait(kDeadline));
  for (const ImageInfo& image : report.images) op.send_image(image);
  if (report.skipped_entries > 0) {
    op.send(json::object{{"progress", std::to_string(report.skipped_entries) +
                                          " entries of the archive belong to no image and were left out"}});
  }
  return {};
}

Result<void> export_images(const Operation& op) {
  const std::string format = op.request.text("format");
  if (format != "oci" && format != "docker" && format != "layout") {
    return Error(Error::invalid, "image",
                 "format \"" + format + "\" is not known; use oci, docker or layout");
  }
  const ImageFormat kind = format == "docker"   ? ImageFormat::docker
                           : format == "layout" ? ImageFormat::layout
                                                : ImageFormat::oci;
  return op.store->export_to(op.request.text("path"), op.request.texts("names"), kind).wait(kDeadline);
}

ImagePullOptions transfer_options(const Operation& op) {
  ImagePullOptions options;
  options.platform = op.request.text("platform");
  options.all_platforms = op.request.flag("all_platforms");
  options.login_files = op.request.texts("login_files");
  options.insecure = op.request.flag("insecure");
  options.chunk_bytes = op.request.number("chunk_bytes").value_or(0);
  if (const std::string user = op.request.text("user"); !user.empty()) {
    options.credentials = RegistryCredentials{user, op.request.text("password")};
  }
  options.plain_http = op.request.flag("plain_http");
  options.ca_pem = op.request.text("ca_pem");
  options.progress = op.progress();
  return options;
}

Result<void> pull(const Operation& op) {
  ORC_ASSIGN(const ImageInfo image,
             op.store->pull(op.request.text("reference"), transfer_options(op)).wait(kDeadline));
  op.send_image(image);
  return {};
}

Result<void> push(const Operation& op) {
  ORC_ASSIGN(
      const std::string pinned,
      op.store->push(op.request.text("reference"), op.request.text("destination"), transfer_options(op))
          .wait(kDeadline));
  op.send(json::object{{"text", pinned}});
  return {};
}

Result<void> build(const Operation& op) {
  BuildOptions options;
  options.context = op.request.text("context");
  options.dockerfile = op.request.text("dockerfile");
  options.tag = op.request.text("tag");
  options.target = op.request.text("target");
  options.build_args = op.request.map("build_args");
  options.no_cache = op.request.flag("no_cache");
  options.network = op.request.flag("network");
  options.isolation = op.steps.isolation;
  options.platforms = op.request.texts("platforms");
  options.labels = op.request.map("labels");
  options.annotations = op.request.map("annotations");
  for (const auto& [id, path] : op.request.map("secrets")) options.secrets.push_back({id, path});
  options.ssh_socket = op.request.text("ssh");
  options.cache_from = op.request.texts("cache_from");
  options.cache_to = op.request.text("cache_to");
  options.explain = op.request.flag("explain");
  for (const std::string& text : op.request.texts("outputs")) {
    ORC_ASSIGN(BuildOutput output, parse_output(text));
    options.outputs.push_back(std::move(output));
  }
  if (const auto epoch = op.request.number("epoch"))
    options.source_date_epoch = static_cast<std::int64_t>(*epoch);
  options.progress = op.progress();
  ORC_ASSIGN(const BuildResult built, ImageBuilder(op.store, op.steps.runner).build(options).wait(kDeadline));
  for (const std::string& warning : built.warnings)
    op.send(json::object{{"progress", "warning: " + warning}});
  op.send_image(built.image);
  return {};
}

Result<void> collect_garbage(const Operation& op) {
  CollectOptions options;
  options.dry_run = op.request.flag("dry_run");
  options.bytes_max = op.request.number("bytes_max");
  if (const auto seconds = op.request.number("minimum_age_s"))
    options.minimum_age = std::chrono::seconds(*seconds);
  if (const auto seconds = op.request.number("maximum_age_s"))
    options.maximum_age = std::chrono::seconds(*seconds);
  ORC_ASSIGN(const CollectReport report, op.store->collect(options).wait(kDeadline));
  for (const std::string& what : report.removed) op.send(json::object{{"removed", what}});
  op.send(json::object{{"bytes", report.bytes}});
  return {};
}

Result<void> verify(const Operation& op) {
  ORC_ASSIGN(const VerifyReport report, op.store->verify().wait(kDeadline));
  for (const std::string& problem : report.problems) op.send(json::object{{"problem", problem}});
  json::object counts{{"blobs", report.blobs}, {"layers", report.layers}, {"images", report.images}};
  op.send(json::object{{"verified", std::move(counts)}});
  if (report.problems.empty()) return {};
  return Error(Error::corrupt, "image",
               std::to_string(report.problems.size()) + " problems; pull or import the images again");
}

/// Whether the registry takes a login: its ping with the challenge answered.
Result<void> login(const Operation& op) {
  Store& store = *op.store->internal();
  if (!store.options().http) return Error(Error::unsupported, "image", "login needs an HTTP client");
  ORC_ASSIGN(const ImageReference reference, ImageReference::parse(op.request.text("host") + "/ping"));
  ORC_ASSIGN(const auto targets, registry_targets(store.options(), reference, transfer_options(op)));
  RegistryTarget target = targets.back();
  target.repository.clear();
  RegistrySession session(store.engine(), store.options().http, target,
                          {3, store.options().registry_retry_delay});
  RegistryRequest ping;
  ORC_ASSIGN(const HttpResponse answer, session.send(ping));
  op.send(json::object{{"text", "login to " + op.request.text("host") + " works"}});
  return {};
}

constexpr std::pair<const char*, Result<void> (*)(const Operation&)> kOperations[] = {
    {"image.ls", list_images}, {"image.inspect", inspect},
    {"image.rm", remove},      {"image.tag", tag},
    {"image.import", import},  {"image.export", export_images},
    {"image.pull", pull},      {"image.push", push},
    {"image.build", build},    {"image.gc", collect_garbage},
    {"image.verify", verify},  {"image.login", login},
};

}  // namespace

json::object probe_of(const ImageHealthCheck& check) {
  json::array command;
  if (check.test.front() == "CMD-SHELL") command = {"/bin/sh", "-c"};
  for (std::size_t i = 1; i < check.test.size(); ++i) command.push_back(json::value(check.test[i]));
  // Docker's defaults, in whole seconds, at least one: what a probe knows.
  const auto seconds = [](std::int64_t ns, std::int64_t other) {
    return ns <= 0 ? other : std::max<std::int64_t>(1, (ns + 999'999'999) / 1'000'000'000);
  };
  json::object probe;
  if (check.test.front() == "NONE" || command.empty()) return probe;
  json::object exec;
  exec["command"] = std::move(command);
  probe["exec"] = std::move(exec);
  probe["periodSeconds"] = seconds(check.interval_ns, 30);
  probe["timeoutSeconds"] = seconds(check.timeout_ns, 30);
  probe["failureThreshold"] = check.retries > 0 ? check.retries : 3;
  if (check.start_period_ns > 0) probe["initialDelaySeconds"] = seconds(check.start_period_ns, 0);
  return probe;
}

json::object describe_image(const ImageInfo& info) {
  json::object config;
  config["entrypoint"] = list_of(info.entrypoint);
  config["command"] = list_of(info.command);
  config["env"] = list_of(info.env);
  config["user"] = info.user;
  config["workingDirectory"] = info.working_directory;
  config["stopSignal"] = info.stop_signal;
  config["exposedPorts"] = list_of(info.exposed_ports);
  config["volumes"] = list_of(info.volumes);
  json::object labels;
  for (const auto& [name, value] : info.labels) labels[name] = value;
  config["labels"] = std::move(labels);
  if (!info.health_check.test.empty()) config["healthCheck"] = list_of(info.health_check.test);
  json::object out;
  out["id"] = info.id;
  out["digest"] = info.digest;
  out["reference"] = info.reference;
  out["pinned"] = info.pinned;
  out["names"] = list_of(info.names);
  out["os"] = info.os;
  out["architecture"] = info.architecture;
  out["bytes"] = info.bytes;
  out["config"] = std::move(config);
  return out;
}

Result<void> run_image_op(const std::shared_ptr<ImageStore>& store, const ImageStepRunner& steps,
                          const json::object& request, const SendLine& send) {
  const Operation operation{store, steps, Request(request), send};
  const std::string name = operation.request.text("op");
  for (const auto& [op, run] : kOperations) {
    if (name == op) return run(operation);
  }
  return Error(Error::unsupported, "image", "operation \"" + name + "\" is not known");
}

}  // namespace orchestra::image

namespace orchestra {

void register_image_ops(ControlServer& server, std::shared_ptr<ImageStore> store, ImageStepRunner steps) {
  for (const auto& [op, run] : image::kOperations) {
    server.handle(op, [store, steps](const json::object& request, ControlReply reply) {
      const image::SendLine send = [&reply](const json::object& line) { return reply.send(line); };
      if (auto done = image::run_image_op(store, steps, request, send); done) {
        reply.done();
      } else {
        reply.fail(done.error());
      }
    });
  }
}

}  // namespace orchestra
