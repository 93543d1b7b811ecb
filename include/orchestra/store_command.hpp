#pragma once
// `orchestra store ...` as a function, so that any program can offer it. Since 0.1.
#include <atomic>
#include <cstdio>
#include <string>
#include <vector>

#include "orchestra/error.hpp"

namespace orchestra {

struct StoreCommandOptions {
  std::FILE* in = stdin;                    ///< for `put KEY -`
  const std::atomic<bool>* stop = nullptr;  ///< set by the program's signal handler: watches and serve end with 0
};

/// Runs `args` (without "store"): put get watch del compact status snapshot restore serve, each with --data DIR on
/// a stopped or a running data folder. Returns the exit status: 0 done, 1 other failure, 2 usage, 3 not
/// found, 4 conflict, 5 unavailable, 6 unknown outcome, 7 compacted or expired, 8 no space or too large,
/// 9 corrupt, 10 denied. Errors are one sentence on `err`.
ORC_API int run_store_command(const std::vector<std::string>& args, std::FILE* out, std::FILE* err,
                              const StoreCommandOptions& options = {});

}  // namespace orchestra
