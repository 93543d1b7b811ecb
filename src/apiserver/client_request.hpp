#pragma once
// What both clients need: answers as errors or objects, and a request as a path.
#include <string>
#include <utility>
#include <vector>

#include "apiserver/text.hpp"
#include "orchestra/client.hpp"

namespace orchestra::apiserver {

Error error_of_response(const ApiResponse& response);
Result<Object> object_of_response(const ApiResponse& response);
/// The parameters of a stream (exec, attach, port-forward): those of `query`, then the members of the body,
/// an object like PodExecOptions, whose lists give a parameter for each entry.
Result<std::vector<std::pair<std::string, std::string>>> stream_parameters(const ApiRequest& request);
/// "/apis/apps/v1/namespaces/shop/deployments/web/scale?dryRun=All"
std::string path_of_request(const ApiRequest& request);
/// The same for a stream.
Result<std::string> path_of_stream(const ApiRequest& request);

}  // namespace orchestra::apiserver
