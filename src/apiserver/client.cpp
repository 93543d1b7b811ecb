// Client: verbs on objects as requests, the same for the in-process and the remote implementation.
#include "orchestra/client.hpp"

#include "api/status.hpp"
#include "api/types.hpp"
#include "apiserver/client_request.hpp"
#include "base/json.hpp"

namespace orchestra {
namespace {
using apiserver::error_of_response;
using apiserver::object_of_response;

Error no_client() {
  return Error(Error::invalid, "client",
               "this Client is empty; take one from ApiServer::client() or RemoteClient::open()");
}

// The path of an object: its resource, and its namespace ("default" where a namespaced builtin has none).
ApiRequest request_for(const Object& object, std::string verb, const WriteOptions& options) {
  ApiRequest request;
  request.verb = std::move(verb);
  request.api_version = object.api_version();
  request.resource = resource_of_kind(object.api_version(), object.kind());
  request.ns = object.ns();
  const auto [group, version] = api::split_api_version(object.api_version());
  const api::TypePtr type = api::TypeRegistry::builtin()->find_kind(group, version, object.kind());
  if (request.ns.empty() && type != nullptr && type->namespaced) request.ns = "default";
  if (type != nullptr && !type->namespaced) request.ns.clear();
  request.subresource = options.subresource;
  return request;
}

void apply_options(ApiRequest& request, const WriteOptions& options) {
  if (!options.field_manager.empty()) request.query["fieldManager"] = options.field_manager;
  if (options.dry_run) request.query["dryRun"] = "All";
  if (options.force) request.query["force"] = "true";
  if (!options.field_validation.empty()) request.query["fieldValidation"] = options.field_validation;
  request.subresource = options.subresource;
  request.fence = options.fence;
  request.deadline = options.deadline;
  request.want_object = true;
}

void apply_options(ApiRequest& request, const ListOptions& options) {
  request.ns = options.ns;
  if (!options.labels.empty()) request.query["labelSelector"] = options.labels;
  if (!options.fields.empty()) request.query["fieldSelector"] = options.fields;
  if (options.limit > 0) request.query["limit"] = std::to_string(options.limit);
  if (!options.continue_token.empty()) request.query["continue"] = options.continue_token;
  if (!options.resource_version.empty()) request.query["resourceVersion"] = options.resource_version;
}

std::string delete_options_json(const DeleteOptions& options) {
  json::object out{{"kind", "DeleteOptions"}, {"apiVersion", "v1"}};
  if (!options.propagation.empty()) out["propagationPolicy"] = options.propagation;
  if (options.grace_period_seconds) out["gracePeriodSeconds"] = *options.grace_period_seconds;
  json::object preconditions;
  if (!options.uid.empty()) preconditions["uid"] = options.uid;
  if (!options.resource_version.empty()) preconditions["resourceVersion"] = options.resource_version;
  if (!preconditions.empty()) out["preconditions"] = std::move(preconditions);
  return json::serialize(out);
}

const char* content_type_of(PatchType type) {
  switch (type) {
    case PatchType::json:
      return "application/json-patch+json";
    case PatchType::merge:
      return "application/merge-patch+json";
    case PatchType::strategic:
      return "application/strategic-merge-patch+json";
    case PatchType::apply:
      return "application/apply-patch+yaml";
  }
  return "application/merge-patch+json";
}

Pending<Object> object_answer(Pending<ApiResponse> pending) {
  return pending.then([](Result<ApiResponse> response) -> Result<Object> {
    if (!response) return response.error();
    return object_of_response(*response);
  });
}
Pending<void> plain_answer(Pending<ApiResponse> pending) {
  return pending.then([](Result<ApiResponse> response) -> Result<void> {
    if (!response) return response.error();
    if (response->code >= 400) return error_of_response(*response);
    return {};
  });
}
}  // namespace

Pending<ApiResponse> Client::request(ApiRequest request) const {
  if (impl_ == nullptr) return no_client();
  return impl_->request(std::move(request)).then([](Result<ApiResponse> response) -> Result<ApiResponse> {
    if (response && response->code >= 400) return error_of_response(*response);
    return response;
  });
}

Pending<Object> Client::create(const Object& object, WriteOptions options) const {
  if (impl_ == nullptr) return no_client();
  ApiRequest request = request_for(object, "create", options);
  apply_options(request, options);
  if (!options.subresource.empty()) request.name = object.name();
  request.object = object;
  return object_answer(impl_->request(std::move(request)));
}

Pending<Object> Client::get(const std::string& api_version, const std::string& resource,
                            const std::string& name, const std::string& ns) const {
  if (impl_ == nullptr) return no_client();
  ApiRequest request;
  request.verb = "get";
  request.api_version = api_version;
  request.resource = resource;
  request.ns = ns;
  request.name = name;
  request.want_object = true;
  return object_answer(impl_->request(std::move(request)));
}

Pending<ObjectList> Client::list(const std::string& api_version, const std::string& resource,
                                 ListOptions options) const {
  if (impl_ == nullptr) return no_client();
  ApiRequest request;
  request.verb = "list";
  request.api_version = api_version;
  request.resource = resource;
  apply_options(request, options);
  return impl_->list(std::move(request));
}

Pending<Object> Client::update(const Object& object, WriteOptions options) const {
  if (impl_ == nullptr) return no_client();
  ApiRequest request = request_for(object, "update", options);
  apply_options(request, options);
  request.name = object.name();
  request.object = object;
  return object_answer(impl_->request(std::move(request)));
}

Pending<Object> Client::patch(const std::string& api_version, const std::string& resource,
                              const std::string& name, const std::string& ns, PatchType type,
                              const std::string& body, WriteOptions options) const {
  if (impl_ == nullptr) return no_client();
  ApiRequest request;
  request.verb = "patch";
  request.api_version = api_version;
  request.resource = resource;
  request.ns = ns;
  request.name = name;
  apply_options(request, options);
  request.content_type = content_type_of(type);
  request.body = body;
  return object_answer(impl_->request(std::move(request)));
}

Pending<Object> Client::apply(const Object& object, WriteOptions options) const {
  if (impl_ == nullptr) return no_client();
  ApiRequest request = request_for(object, "patch", options);
  apply_options(request, options);
  request.name = object.name();
  request.content_type = content_type_of(PatchType::apply);
  request.body = std::string(object.json());
  return object_answer(impl_->request(std::move(request)));
}

Pending<void> Client::remove(const std::string& api_version, const std::string& resource,
                             const std::string& name, const std::string& ns, DeleteOptions options) const {
  if (impl_ == nullptr) return no_client();
  ApiRequest request;
  request.verb = "delete";
  request.api_version = api_version;
  request.resource = resource;
  request.ns = ns;
  request.name = name;
  request.body = delete_options_json(options);
  return plain_answer(impl_->request(std::move(request)));
}

Pending<void> Client::remove_collection(const std::string& api_version, const std::string& resource,
                                        ListOptions which, DeleteOptions options) const {
  if (impl_ == nullptr) return no_client();
  ApiRequest request;
  request.verb = "deletecollection";
  request.api_version = api_version;
  request.resource = resource;
  apply_options(request, which);
  request.body = delete_options_json(options);
  return plain_answer(impl_->request(std::move(request)));
}

Result<ObjectWatch> Client::watch(const std::string& api_version, const std::string& resource,
                                  ListOptions options) const {
  if (impl_ == nullptr) return no_client();
  ApiRequest request;
  request.verb = "watch";
  request.api_version = api_version;
  request.resource = resource;
  apply_options(request, options);
  request.query["allowWatchBookmarks"] = "true";
  return impl_->watch(std::move(request));
}

Pending<std::vector<Result<Object>>> Client::batch(std::vector<ApiRequest> requests) const {
  if (impl_ == nullptr) return no_client();
  for (ApiRequest& request : requests) request.want_object = true;
  return impl_->batch(std::move(requests))
      .then([](Result<std::vector<ApiResponse>> responses) -> Result<std::vector<Result<Object>>> {
        if (!responses) return responses.error();
        std::vector<Result<Object>> out;
        out.reserve(responses->size());
        for (const ApiResponse& response : *responses) out.push_back(object_of_response(response));
        return out;
      });
}

std::string resource_of_kind(const std::string& api_version, const std::string& kind) {
  const auto [group, version] = api::split_api_version(api_version);
  if (const api::TypePtr type = api::TypeRegistry::builtin()->find_kind(group, version, kind))
    return type->plural;
  std::string name = apiserver::to_lower(kind);
  const auto ends = [&](std::string_view tail) { return name.ends_with(tail); };
  if (ends("s") || ends("x") || ends("ch") || ends("sh")) return name + "es";
  if (ends("y") && name.size() > 1 &&
      std::string_view("aeiou").find(name[name.size() - 2]) == std::string_view::npos) {
    return name.substr(0, name.size() - 1) + "ies";
  }
  return name + "s";
}

}  // namespace orchestra
