#pragma once
// The Client of an ApiServer in this process: the whole pipeline, no HTTP, objects shared instead of copied.
#include <memory>

#include "apiserver/core.hpp"
#include "orchestra/client.hpp"

namespace orchestra::apiserver {

/// `handle` lives as long as the client, its copies and their watches.
Client make_in_process_client(std::shared_ptr<ApiCore> core, Identity user,
                              std::shared_ptr<void> handle = nullptr);

}  // namespace orchestra::apiserver
