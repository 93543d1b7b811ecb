#pragma once
// ConfigMaps to ask for over HTTP, and what an answer says.
#include <string>

#include "base/json.hpp"
#include "orchestra/api_server.hpp"

namespace orchestra::test {

inline const std::string kMaps = "/api/v1/namespaces/default/configmaps";

inline std::string map_json(const std::string& name, const std::string& value = "v") {
  return R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":")" + name + R"("},"data":{"k":")" +
         value + "\"}}";
}

/// The field of the Status in `answer`, or the whole body where it holds none.
inline std::string status_field(const HttpResponse& answer, const char* pointer) {
  const auto tree = parse_json(answer.body);
  return tree ? string_at(*tree, pointer) : answer.body;
}
/// "404 NotFound".
inline std::string reason(const HttpResponse& answer) {
  return std::to_string(answer.status) + " " + status_field(answer, "/reason");
}
inline std::string message(const HttpResponse& answer) { return status_field(answer, "/message"); }

}  // namespace orchestra::test
