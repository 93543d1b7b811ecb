#pragma once
// Several transfers at once, by the calling thread and helpers on worker threads.
//
// The caller takes part, so transfers never wait for a free worker, and returns when all have ended. The
// first error ends the rest: what has not begun is left out.
#include <functional>
#include <vector>

#include "orchestra/engine.hpp"

namespace orchestra::image {

inline constexpr int kTransfersAtOnce = 3;  // of one image

using Transfer = std::function<Result<void>()>;
Result<void> run_transfers(Engine& engine, std::vector<Transfer> transfers);

}  // namespace orchestra::image
