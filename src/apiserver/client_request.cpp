// Requests and answers of clients: see client_request.hpp.
#include "apiserver/client_request.hpp"

#include "api/status.hpp"

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

std::string path_of_request(const ApiRequest& request) {
  std::string path = request.api_version.find('/') == std::string::npos ? "/api/" : "/apis/";
  path += request.api_version;
  if (!request.ns.empty()) path += "/namespaces/" + percent_encode(request.ns);
  path += "/" + request.resource;
  if (!request.name.empty()) path += "/" + percent_encode(request.name);
  if (!request.subresource.empty()) path += "/" + request.subresource;
  char separator = '?';
  for (const auto& [name, value] : request.query) {
    path += separator + percent_encode(name) + "=" + percent_encode(value);
    separator = '&';
  }
  return path;
}

}  // namespace orchestra::apiserver
