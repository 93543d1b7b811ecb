// The program as a CNI plugin: started under the name orchestra-cni by a container runtime.
#include "net/cni/plugin.hpp"

#include <cstdio>
#include <cstdlib>

#include "examples/cli/cli.hpp"

namespace orchestra::cli {
namespace {
constexpr std::size_t kInputBytesMax = 4 << 20;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}
}  // namespace

int run_cni_plugin() {
  net::CniCall call{variable("CNI_COMMAND"),
                    variable("CNI_CONTAINERID"),
                    variable("CNI_NETNS"),
                    variable("CNI_IFNAME"),
                    "",
                    {}};
  if (call.command.empty()) {
    std::fputs(
        "orchestra-cni is a CNI plugin: a container runtime calls it with CNI_COMMAND and a configuration on "
        "stdin\n",
        stderr);
    return 2;
  }
  char bytes[4096];
  while (const std::size_t got = std::fread(bytes, 1, sizeof bytes, stdin)) {
    call.input.append(bytes, got);
    if (call.input.size() > kInputBytesMax) break;  // no configuration: it will not be read as one
  }
  Engine engine;
  const net::CniAnswer answer = net::answer_cni_call(engine, call);
  std::fputs(answer.output.c_str(), stdout);
  return answer.exit_code;
}

}  // namespace orchestra::cli
