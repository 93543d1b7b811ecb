#pragma once
// What both clients need: answers as errors or objects, and a request as a path.
#include <string>

#include "apiserver/text.hpp"
#include "orchestra/client.hpp"

namespace orchestra::apiserver {

Error error_of_response(const ApiResponse& response);
Result<Object> object_of_response(const ApiResponse& response);
/// "/apis/apps/v1/namespaces/shop/deployments/web/scale?dryRun=All"
std::string path_of_request(const ApiRequest& request);

}  // namespace orchestra::apiserver
