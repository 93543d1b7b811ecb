#pragma once
// The Client of an ApiServer in this process: the whole pipeline, no HTTP, objects shared instead of copied.
#include <memory>

#include "apiserver/core.hpp"
#include "orchestra/client.hpp"

namespace orchestra::apiserver {

Client make_in_process_client(std::shared_ptr<ApiCore> core, Identity user);

}  // namespace orchestra::apiserver
