#pragma once
// `orchestra image ...`: the command line of images, as a function that the program calls.
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "image/ops.hpp"
#include "orchestra/engine.hpp"

namespace orchestra {

struct ImageCommandSettings {
  std::string store = "/var/lib/orchestra/images";
  /// Makes what runs RUN steps ("best", "full", "rootless", "process"); none: RUN is refused.
  std::function<Result<ImageStepRunner>(Engine&, const std::string& isolation)> make_steps;
};

/// `args` without "image". The answer is the exit status of DESIGN.md section 5. Results go to `out`, what
/// happens on the way and errors to `err`. A store owned by a running process is asked through the
/// control.sock beside its folder.
ORC_API int run_image_command(const std::vector<std::string>& args, std::FILE* out, std::FILE* err,
                              const ImageCommandSettings& settings = {});

}  // namespace orchestra
