// Requests and answers of clients: see client_request.hpp.
#include "apiserver/client_request.hpp"

#include "api/status.hpp"
#include "base/json.hpp"

namespace orchestra::apiserver {

Error error_of_response(const ApiResponse& response) {
  if (auto status = api::parse_status(response.body)) return api::status_error(std::move(*status));
  const std::string text = response.body.substr(0, 500);
  return api::status_error(api::make_status(
      response.code, "",
      "the server answered " + std::to_string(response.code) + (text.empty() ? "" : ": " + text)));
}

Result<Object> object_of_response(const ApiResponse& response) {
  if (response.code >= 400) return error_of_response(response);
  if (response.object) return response.object;
  return Object::from_json(response.body);
}

namespace {
std::string path_with(const ApiRequest& request,
                      const std::vector<std::pair<std::string, std::string>>& parameters) {
  std::string path = request.api_version.find('/') == std::string::npos ? "/api/" : "/apis/";
  path += request.api_version;
  if (!request.ns.empty()) path += "/namespaces/" + percent_encode(request.ns);
  path += "/" + request.resource;
  if (!request.name.empty()) path += "/" + percent_encode(request.name);
  if (!request.subresource.empty()) path += "/" + request.subresource;
  char separator = '?';
  for (const auto& [name, value] : parameters) {
    path += separator + percent_encode(name) + "=" + percent_encode(value);
    separator = '&';
  }
  return path;
}

Result<std::string> parameter_of(const std::string& name, const json::value& value) {
  if (value.is_string()) return std::string(value.get_string());
  if (value.is_bool() || value.is_int64() || value.is_uint64()) return to_json(value);
  return api::bad_request("the option \"" + name +
                          "\" of a stream must be a text, a number or a boolean, not " + to_json(value));
}
}  // namespace

std::string path_of_request(const ApiRequest& request) {
  return path_with(request, {request.query.begin(), request.query.end()});
}

Result<std::vector<std::pair<std::string, std::string>>> stream_parameters(const ApiRequest& request) {
  std::vector<std::pair<std::string, std::string>> out(request.query.begin(), request.query.end());
  if (request.body.empty()) return out;
  ORC_ASSIGN(const json::value tree, parse_json(request.body));
  if (!tree.is_object()) return api::bad_request("the options of a stream are not a JSON object");
  for (const auto& entry : tree.get_object()) {
    const std::string name(entry.key());
    if (name == "kind" || name == "apiVersion") continue;
    if (const json::array* list = entry.value().if_array()) {
      for (const json::value& one : *list) {
        ORC_ASSIGN(std::string value, parameter_of(name, one));
        out.emplace_back(name, std::move(value));
      }
      continue;
    }
    ORC_ASSIGN(std::string value, parameter_of(name, entry.value()));
    out.emplace_back(name, std::move(value));
  }
  return out;
}

Result<std::string> path_of_stream(const ApiRequest& request) {
  ORC_ASSIGN(const auto parameters, stream_parameters(request));
  return path_with(request, parameters);
}

}  // namespace orchestra::apiserver
