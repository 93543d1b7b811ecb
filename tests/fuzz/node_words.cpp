// What reaches the agent from outside: manifests of static pods and answers of gRPC health services.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "node/grpc_health.hpp"
#include "node/static_pods.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  (void)orchestra::node::static_pod(bytes, "n1");
  orchestra::node::GrpcHealthCall call("127.0.0.1:1", "service");
  for (std::size_t at = 0; at < bytes.size() && !call.done(); at += 7) {
    if (!call.feed(bytes.substr(at, 7))) break;
  }
  return 0;
}
