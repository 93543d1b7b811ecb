#pragma once
// `orchestra store serve`.
#include <cstdio>
#include <functional>

#include "store/command_args.hpp"

namespace orchestra::store::command {

/// Owns the folder and answers other commands through control.sock until `stopped` says so.
Result<int> serve(const Arguments& args, std::FILE* out, const std::function<bool()>& stopped);

}  // namespace orchestra::store::command
