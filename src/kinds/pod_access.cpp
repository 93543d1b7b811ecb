// Which container a stream request means: see pod_access.hpp.
#include <charconv>

#include "api/meta.hpp"
#include "api/status.hpp"
#include "apiserver/admission/plugins.hpp"
#include "apiserver/streams/pod_access.hpp"
#include "apiserver/webhook/webhook.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::string_view kDefaultContainer =
    "/metadata/annotations/kubectl.kubernetes.io~1default-container";

void add_names(const json::value& pod, std::string_view pointer, std::vector<std::string>& names) {
  if (const json::array* list = array_at(pod, pointer)) {
    for (const json::value& entry : *list) names.push_back(string_at(entry, "/name"));
  }
}
std::string join(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : " ") + name;
  return out;
}

Result<std::string> choose_container(const json::value& pod, const std::string& name,
                                     const std::string& asked) {
  std::vector<std::string> containers;
  std::vector<std::string> others;
  add_names(pod, "/spec/containers", containers);
  add_names(pod, "/spec/initContainers", others);
  add_names(pod, "/spec/ephemeralContainers", others);
  if (!asked.empty()) {
    for (const auto* list : {&containers, &others}) {
      for (const std::string& one : *list) {
        if (one == asked) return asked;
      }
    }
    return api::bad_request("container " + asked + " is not valid for pod " + name);
  }
  if (containers.size() == 1) return containers.front();
  const std::string annotated = string_at(pod, kDefaultContainer);
  for (const std::string& one : containers) {
    if (one == annotated) return one;
  }
  std::string message =
      "a container name must be specified for pod " + name + ", choose one of: [" + join(containers) + "]";
  std::vector<std::string> init;
  add_names(pod, "/spec/initContainers", init);
  if (!init.empty()) message += " or one of the init containers: [" + join(init) + "]";
  return api::bad_request(message);
}

/// Go's strconv.ParseInt, whose words upstream passes on; no text: no number.
Result<std::optional<std::int64_t>> number(const Query& query, const std::string& name) {
  const std::string text = query_value(query, name);
  if (text.empty()) return std::optional<std::int64_t>();
  std::int64_t value = 0;
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  const auto [end, error] = std::from_chars(begin, text.data() + text.size(), value);
  const bool whole = end == text.data() + text.size();
  if (error == std::errc() && whole) return std::optional<std::int64_t>(value);
  const bool range = error == std::errc::result_out_of_range && whole;
  return api::bad_request("strconv.ParseInt: parsing \"" + text +
                          "\": " + (range ? "value out of range" : "invalid syntax"));
}

/// What is no number or time is 400; what cannot be meant is 422 (upstream's ValidatePodLogOptions).
Result<LogOptions> log_options(const Query& query, const std::string& pod) {
  LogOptions options;
  options.follow = query_flag(query, "follow");
  options.previous = query_flag(query, "previous");
  options.timestamps = query_flag(query, "timestamps");
  ORC_ASSIGN(options.since_seconds, number(query, "sinceSeconds"));
  ORC_ASSIGN(options.tail_lines, number(query, "tailLines"));
  ORC_ASSIGN(options.limit_bytes, number(query, "limitBytes"));
  options.since_time = query_value(query, "sinceTime");
  if (!options.since_time.empty() && !api::parse_time(options.since_time)) {
    return api::bad_request("parsing time \"" + options.since_time +
                            "\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"" + options.since_time +
                            "\" as \"2006\"");
  }
  api::FieldErrors errors;
  const auto at_least = [&](const char* name, std::optional<std::int64_t> value, std::int64_t least,
                            const char* why) {
    if (value && *value < least) errors.invalid(api::FieldPath(name), json::value(*value), why);
  };
  at_least("tailLines", options.tail_lines, 0, "must be greater than or equal to 0");
  at_least("limitBytes", options.limit_bytes, 1, "must be greater than 0");
  if (options.since_seconds && !options.since_time.empty()) {
    errors.forbidden(api::FieldPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified");
  } else {
    at_least("sinceSeconds", options.since_seconds, 1, "must be greater than 0");
  }
  if (!errors.empty()) return api::invalid("", "PodLogOptions", pod, errors);
  return options;
}

ExecOptions exec_options(const Query& query, bool attach) {
  ExecOptions options;
  options.in = query_flag(query, "stdin");
  options.out = query_flag(query, "stdout");
  options.err = query_flag(query, "stderr");
  options.tty = query_flag(query, "tty");
  if (options.tty) options.err = false;  // a terminal has one output
  if (attach) return options;
  const auto [begin, end] = query.equal_range("command");
  for (auto it = begin; it != end; ++it) options.command.push_back(it->second);
  return options;
}

ExecOptions exec_options(const json::value& options) {
  ExecOptions out;
  out.in = bool_at(options, "/stdin");
  out.out = bool_at(options, "/stdout");
  out.err = bool_at(options, "/stderr");
  out.tty = bool_at(options, "/tty");
  if (const json::array* command = array_at(options, "/command")) {
    for (const json::value& word : *command) {
      if (word.is_string()) out.command.emplace_back(word.get_string());
    }
  }
  return out;
}

/// Policies and webhooks judge who opens a connection, by the options of it (PodExecOptions and the like),
/// and webhooks may change these.
Result<void> admit_connection(ApiCore& core, const Call& call, const api::TypePtr& type, const View& view,
                              PodAccess& access) {
  WriteInput input;
  input.call = &call;
  input.core = &core;
  input.type = type;
  input.sub = type->subresource(call.info.subresource);
  input.version = type->version(call.info.version);
  json::object options{{"kind", input.sub->kind.kind}, {"apiVersion", input.sub->kind.api_version()}};
  const bool forward = call.info.subresource == "portforward";
  if (forward) {
    json::array ports;
    const auto [begin, end] = call.info.query.equal_range("ports");
    for (auto it = begin; it != end; ++it) ports.emplace_back(std::int64_t{std::atoi(it->second.c_str())});
    if (!ports.empty()) options["ports"] = std::move(ports);
  } else {
    const ExecOptions& exec = access.exec;
    for (const auto& [name, value] : {std::pair("stdin", exec.in), std::pair("stdout", exec.out),
                                      std::pair("stderr", exec.err), std::pair("tty", exec.tty)}) {
      if (value) options[name] = true;
    }
    options["container"] = access.target.container;
    json::array command;
    for (const std::string& word : exec.command) command.emplace_back(word);
    if (!command.empty()) options["command"] = std::move(command);
  }
  json::value object = std::move(options);
  Change change;
  Admission admission{input, view, change, &object, nullptr};
  admission.connects = true;
  ORC_TRY(admit_document(admission));
  if (forward) return {};
  access.exec = exec_options(object);
  access.target.container = string_at(object, "/container", access.target.container);
  return {};
}

Result<PodAccess> read_access(ApiCore& core, const Call& call, const api::TypePtr& type, const View& view) {
  const RequestInfo& info = call.info;
  ORC_ASSIGN(std::optional<Loaded> loaded, view.load(object_key({"", "pods"}, info.ns, info.name)));
  if (!loaded) return api::not_found(api::ResourceName("", "pods"), info.name);
  ORC_ASSIGN(const json::value pod, loaded->tree());
  PodAccess access;
  access.streams = core.pod_streams();
  access.target.ns = info.ns;
  access.target.pod = info.name;
  access.target.uid = std::string(loaded->view.uid);
  access.target.node = string_at(pod, "/spec/nodeName");
  if (info.subresource != "portforward") {
    ORC_ASSIGN(access.target.container,
               choose_container(pod, info.name, query_value(info.query, "container")));
  }
  if (info.subresource == "log") {
    ORC_ASSIGN(access.log, log_options(info.query, info.name));
  } else if (info.subresource != "portforward") {
    access.exec = exec_options(info.query, info.subresource == "attach");
    if (info.subresource == "exec" && access.exec.command.empty()) {
      return api::bad_request("you must specify at least 1 command for the container");
    }
    if (!access.exec.in && !access.exec.out && !access.exec.err) {
      return api::bad_request("you must specify at least 1 of stdin, stdout, stderr");
    }
  }
  if (access.target.node.empty()) {
    return api::bad_request("pod " + info.name + " does not have a host assigned");
  }
  const std::string phase = string_at(pod, "/status/phase");
  if (info.subresource != "log" && (phase == "Succeeded" || phase == "Failed")) {
    return api::bad_request(
        "cannot exec in, attach to or forward to a container in a completed pod; current phase is " + phase);
  }
  if (access.streams == nullptr) {
    return api::service_unavailable("no node agent is connected to this server, so pods cannot be reached");
  }
  if (info.subresource != "log") ORC_TRY(admit_connection(core, call, type, view, access));
  return access;
}
}  // namespace

void find_pod(ApiCore& core, const Call& call, std::function<void(Result<PodAccess>)> answer) {
  auto type = core.resolve(call.info);
  if (!type) return answer(type.error());
  auto self = core.shared_from_this();
  core.store().snapshot(0).on_ready(
      [self, call, type = *type, answer = std::move(answer)](Result<Snapshot> snapshot) {
        if (!snapshot) return answer(store_error(snapshot.error()));
        // Webhooks take their time: then on a worker thread.
        const bool waits = call.info.subresource != "log" && !call.user.own && self->webhooks().wants(*type);
        self->run(
            waits, [=] { answer(read_access(*self, call, type, View(*snapshot))); },
            [answer](const Error& refused) { answer(refused); });
      });
}

}  // namespace orchestra::apiserver
