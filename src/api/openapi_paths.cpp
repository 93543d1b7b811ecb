// See openapi_paths.hpp. Which operations a subresource has, with which parameters, bodies and kinds, is as
// in upstream's api/openapi-spec; descriptions are ours.
#include "api/openapi_paths.hpp"

#include <algorithm>

#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr const char* kDeleteOptions = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
constexpr const char* kStatus = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";

struct QueryWord {
  const char* name;
  const char* type;
  const char* text;
};
constexpr QueryWord kContainer{"container", "string",
                               "The container; the only one, or the default, if empty."};
constexpr QueryWord kStreams[] = {{"stderr", "boolean", "Send what the process writes to standard error."},
                                  {"stdin", "boolean", "Pass on standard input."},
                                  {"stdout", "boolean", "Send what the process writes to standard output."},
                                  {"tty", "boolean", "Give the process a terminal."}};
constexpr QueryWord kLog[] = {kContainer,
                              {"follow", "boolean", "Go on as lines are written."},
                              {"insecureSkipTLSVerifyBackend", "boolean",
                               "Accepted for compatibility; nodes are reached by their tunnel."},
                              {"limitBytes", "integer", "End after so many bytes."},
                              {"previous", "boolean", "The log of the container that ran before."},
                              {"sinceSeconds", "integer", "Only lines that are not older."},
                              {"stream", "string", "All, Stdout or Stderr."},
                              {"tailLines", "integer", "Only so many lines at the end."},
                              {"timestamps", "boolean", "Begin each line with its time."}};

json::object parameter(const char* name, const char* where, const char* type, const char* text) {
  json::object out{{"name", name}, {"in", where}, {"description", text}};
  if (std::string_view(where) == "path") out["required"] = true;
  json::object schema{{"type", type}, {"uniqueItems", true}};
  out["schema"] = std::move(schema);
  return out;
}

json::array write_parameters(bool patch) {
  json::array out;
  out.push_back(
      parameter("dryRun", "query", "string", "All: run every stage of the request, store nothing."));
  out.push_back(
      parameter("fieldManager", "query", "string", "The name under which changed fields are recorded."));
  out.push_back(parameter("fieldValidation", "query", "string",
                          "What to do about unknown and duplicate fields: Ignore, Warn or Strict."));
  if (patch)
    out.push_back(parameter("force", "query", "boolean", "Apply only: take over fields that others own."));
  return out;
}

json::array list_parameters() {
  json::array out;
  out.push_back(parameter("allowWatchBookmarks", "query", "boolean", "Send bookmarks on a watch."));
  out.push_back(parameter("continue", "query", "string", "The token of the page before."));
  out.push_back(parameter("fieldSelector", "query", "string", "Only objects whose fields match."));
  out.push_back(parameter("labelSelector", "query", "string", "Only objects whose labels match."));
  out.push_back(parameter("limit", "query", "integer", "The size of a page."));
  out.push_back(parameter("resourceVersion", "query", "string", "How new the answer must be."));
  out.push_back(parameter("resourceVersionMatch", "query", "string", "NotOlderThan or Exact."));
  out.push_back(
      parameter("sendInitialEvents", "query", "boolean", "Start a watch with the objects that exist."));
  out.push_back(parameter("timeoutSeconds", "query", "integer", "When to end the call."));
  out.push_back(parameter("watch", "query", "boolean", "Send changes as they happen."));
  return out;
}

void add_words(json::array& out, const QueryWord& word) {
  out.push_back(parameter(word.name, "query", word.type, word.text));
}

// What the options of a connection are in the query; empty: none of ours.
json::array connection_parameters(const std::string& options) {
  json::array out;
  if (options == "PodExecOptions" || options == "PodAttachOptions") {
    if (options == "PodExecOptions")
      add_words(out, {"command", "string", "The program and, repeated, its arguments; not run by a shell."});
    add_words(out, kContainer);
    for (const QueryWord& word : kStreams) add_words(out, word);
  } else if (options == "PodPortForwardOptions") {
    add_words(out, {"ports", "integer", "The ports of the pod, where the protocol names them up front."});
  } else if (options.ends_with("ProxyOptions")) {
    add_words(out, {"path", "string", "The part of the URL behind the object."});
  }
  return out;
}

json::object json_content(const std::string& reference) {
  const json::object schema{{"schema", json::object{{"$ref", reference}}}};
  return {{"application/json", schema},
          {"application/yaml", schema},
          {"application/vnd.kubernetes.protobuf", schema}};
}

json::object text_content(std::initializer_list<const char*> types) {
  json::object out;
  for (const char* type : types) out[type] = json::object{{"schema", json::object{{"type", "string"}}}};
  return out;
}

json::object gvk_json(const GroupVersionKind& gvk) {
  return {{"group", gvk.group}, {"kind", gvk.kind}, {"version", gvk.version}};
}

// The full name of the body of a subresource; empty where there is no such message (options of connections).
std::string body_type(const GroupVersionKind& gvk) {
  const std::string group = gvk.group.empty() ? "core" : gvk.group.substr(0, gvk.group.find('.'));
  return "io.k8s.api." + group + "." + gvk.version + "." + gvk.kind;
}

std::string capital(std::string text) {
  if (!text.empty() && text[0] >= 'a' && text[0] <= 'z') text[0] = static_cast<char>(text[0] - 'a' + 'A');
  return text;
}

/// The operations on one kind.
class Operations {
 public:
  Operations(OpenApiSchemas& schemas, const TypeRecord& record, const TypeVersion& version)
      : schemas_(schemas), record_(record), version_(version), name_(version.schema.type_name()) {}

  json::object collection() {
    json::object path;
    if (record_.allows("list")) path["get"] = answering("list", name_ + "List", list_parameters());
    if (record_.allows("create"))
      path["post"] = with_body(answering("post", name_, write_parameters(false)), name_);
    if (record_.allows("deletecollection")) {
      path["delete"] = answering("deletecollection", kStatus, list_parameters());
    }
    return finished(std::move(path), false);
  }
  json::object item() {
    json::object path;
    if (record_.allows("get")) path["get"] = answering("get", name_, {});
    if (record_.allows("update"))
      path["put"] = with_body(answering("put", name_, write_parameters(false)), name_);
    if (record_.allows("patch")) path["patch"] = patch_operation(name_);
    if (record_.allows("delete"))
      path["delete"] =
          with_body(answering("delete", record_.returns_deleted ? name_ : kStatus, write_parameters(false)),
                    kDeleteOptions);
    return finished(std::move(path), true);
  }

  void subresource(const Subresource& sub, const std::string& at, json::object& paths) {
    sub_ = &sub;
    if (sub.name == "log") {
      paths[at] = finished(json::object{{"get", log()}}, true);
    } else if (sub.kind.kind.ends_with("Options")) {
      paths[at] = finished(connection(), true);
      if (sub.name == "proxy") {
        json::object rest = finished(connection(true), true);
        rest["parameters"].get_array().push_back(
            parameter("path", "path", "string", "The part of the URL behind the object."));
        paths[at + "/{path}"] = std::move(rest);
      }
    } else {
      paths[at] = finished(document(), true);
    }
    sub_ = nullptr;
  }

 private:
  GroupVersionKind gvk() const { return sub_ == nullptr ? record_.gvk(version_.name) : sub_->kind; }

  json::object operation(const std::string& action, const std::string& verb, json::array parameters,
                         json::object content) const {
    const GroupVersionKind its = gvk();
    const std::string what = sub_ == nullptr ? record_.kind : sub_->name + " of " + record_.kind;
    json::object out{{"description", verb + " " + what},
                     {"operationId", verb + record_.group + version_.name + record_.kind +
                                         (sub_ == nullptr ? std::string() : capital(sub_->name))}};
    if (!parameters.empty()) out["parameters"] = std::move(parameters);
    json::object ok{{"description", "OK"}, {"content", std::move(content)}};
    out["responses"] = json::object{{"200", std::move(ok)}};
    out["x-kubernetes-action"] = action;
    out["x-kubernetes-group-version-kind"] = gvk_json(its);
    return out;
  }
  json::object answering(const char* action, const std::string& answer, json::array parameters) const {
    return operation(action, action, std::move(parameters), json_content(schemas_.reference(answer)));
  }
  json::object with_body(json::object operation, const std::string& type) const {
    operation["requestBody"] = json::object{{"content", json_content(schemas_.reference(type))}};
    return operation;
  }
  json::object patch_operation(const std::string& answer) const {
    json::object out = answering("patch", answer, write_parameters(true));
    json::object content;
    const json::object any{{"schema", json::object{{"type", "object"}}}};
    std::vector<const char*> types{"application/json-patch+json", "application/merge-patch+json",
                                   "application/apply-patch+yaml"};
    if (record_.builtin) types.push_back("application/strategic-merge-patch+json");
    for (const char* type : types) content[type] = any;
    out["requestBody"] = json::object{{"content", std::move(content)}, {"required", true}};
    return out;
  }
  /// The object itself, or a document of another kind: a Scale, an Eviction.
  json::object document() {
    std::string type = name_;
    if (sub_->kind.kind != record_.kind) {
      type = body_type(sub_->kind);
      schemas_.add_body(type, sub_->kind);
    }
    json::object path;
    for (const std::string& verb : sub_->verbs) {
      if (verb == "get") path["get"] = answering("get", type, {});
      if (verb == "create") path["post"] = with_body(answering("post", type, write_parameters(false)), type);
      if (verb == "update") path["put"] = with_body(answering("put", type, write_parameters(false)), type);
      if (verb == "patch") path["patch"] = patch_operation(type);
    }
    return path;
  }
  json::object log() const {
    json::array parameters;
    for (const QueryWord& word : kLog) add_words(parameters, word);
    return operation("get", "get", std::move(parameters),
                     text_content({"text/plain", "application/json", "application/yaml"}));
  }
  /// Whatever the method, the connection is what is asked for.
  json::object connection(bool path_in_url = false) const {
    json::object path;
    const auto add = [&](const char* method) {
      json::array parameters;
      if (!path_in_url) parameters = connection_parameters(sub_->kind.kind);
      json::object made =
          operation("connect", "connect" + capital(method), std::move(parameters), text_content({"*/*"}));
      if (path_in_url) made["operationId"] = string_at(made, "/operationId") + "WithPath";
      path[method] = std::move(made);
    };
    for (const std::string& verb : sub_->verbs) {
      if (verb == "get") add("get");
      if (verb == "create") add("post");
      if (verb == "update") add("put");
      if (verb == "patch") add("patch");
      if (verb == "delete") add("delete");
    }
    if (sub_->name == "proxy") {
      add("head");
      add("options");
    }
    return path;
  }
  json::object finished(json::object path, bool named) const {
    json::array parameters;
    if (named) parameters.push_back(parameter("name", "path", "string", "The name of the object."));
    if (record_.namespaced)
      parameters.push_back(parameter("namespace", "path", "string", "The namespace of the object."));
    if (sub_ == nullptr || !sub_->kind.kind.ends_with("Options"))
      parameters.push_back(parameter("pretty", "query", "string", "Print the answer for reading."));
    path["parameters"] = std::move(parameters);
    return path;
  }

  OpenApiSchemas& schemas_;
  const TypeRecord& record_;
  const TypeVersion& version_;
  std::string name_;
  const Subresource* sub_ = nullptr;  ///< that the operation is on
};

// A parameter of version 2 has its type beside its name.
json::object flat_parameter(const json::object& from) {
  json::object out = from;
  if (const json::value* schema = out.if_contains("schema")) {
    const json::value type = schema->at("type");
    out.erase("schema");
    out["type"] = type;
    out["uniqueItems"] = true;
  }
  return out;
}

json::array flat_parameters(const json::object& from) {
  json::array out;
  if (const json::value* list = from.if_contains("parameters")) {
    for (const json::value& one : list->get_array()) out.push_back(flat_parameter(one.get_object()));
  }
  return out;
}

json::object v2_operation(const json::object& from) {
  json::object out;
  for (const auto& entry : from) {
    if (entry.key() != "parameters" && entry.key() != "requestBody" && entry.key() != "responses")
      out[entry.key()] = entry.value();
  }
  const auto media_types = [](const json::value& holder) {
    json::array types;
    for (const auto& entry : holder.at("content").get_object()) types.push_back(json::string(entry.key()));
    return types;
  };
  json::array parameters;
  if (const json::value* body = from.if_contains("requestBody")) {
    out["consumes"] = media_types(*body);
    parameters.push_back(
        json::object{{"name", "body"},
                     {"in", "body"},
                     {"required", body->get_object().contains("required")},
                     {"schema", body->at("content").get_object().begin()->value().at("schema")}});
  }
  for (json::value& one : flat_parameters(from)) parameters.push_back(std::move(one));
  if (!parameters.empty()) out["parameters"] = std::move(parameters);
  json::object responses;
  for (const auto& entry : from.at("responses").get_object()) {
    out["produces"] = media_types(entry.value());
    responses[entry.key()] =
        json::object{{"description", entry.value().at("description")},
                     {"schema", entry.value().at("content").get_object().begin()->value().at("schema")}};
  }
  out["responses"] = std::move(responses);
  return out;
}
}  // namespace

void add_paths(OpenApiSchemas& schemas, const TypeRecord& record, const TypeVersion& version,
               const std::string& root, json::object& paths) {
  Operations operations(schemas, record, version);
  const std::string base = root + (record.namespaced ? "/namespaces/{namespace}/" : "/") + record.plural;
  paths[base] = operations.collection();
  if (record.virtual_only) return;
  paths[base + "/{name}"] = operations.item();
  for (const Subresource& sub : record.in_version(version.name).subresources)
    operations.subresource(sub, base + "/{name}/" + sub.name, paths);
}

void add_discovery_path(OpenApiSchemas& schemas, const std::string& path, const std::string& kind,
                        json::object& paths) {
  const std::string type = "io.k8s.apimachinery.pkg.apis.meta.v1." + kind;
  schemas.add_body(type, {"", "v1", kind});
  std::string id = "get";
  for (const char c : path) {
    if (c != '/') id += c;
  }
  json::object ok{{"description", "OK"}, {"content", json_content(schemas.reference(type))}};
  json::object get{{"description", "What is served here."},
                   {"operationId", id + kind},
                   {"responses", json::object{{"200", std::move(ok)}}}};
  paths[path] = json::object{{"get", std::move(get)}};
}

json::object v2_item(const json::object& item) {
  json::object out;
  for (const auto& entry : item) {
    if (entry.key() == "parameters") continue;
    out[entry.key()] = v2_operation(entry.value().get_object());
  }
  if (json::array parameters = flat_parameters(item); !parameters.empty())
    out["parameters"] = std::move(parameters);
  return out;
}

}  // namespace orchestra::api
