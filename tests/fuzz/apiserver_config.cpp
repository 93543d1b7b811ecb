// Files that people hand to the API server and its clients: kubeconfig, EncryptionConfiguration, audit
// Policy. What is refused is refused with words; what is taken is taken again.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "apiserver/audit/audit.hpp"
#include "apiserver/seal/sealer.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/remote_client.hpp"

namespace {
template <class T>
void check(const orchestra::Result<T>& parsed) {
  if (!parsed && parsed.error().message().empty()) std::abort();
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra;
  static Engine engine;
  if (size > 20000) return 0;
  const std::string text(reinterpret_cast<const char*>(data), size);
  // No folder: a file that the text names is looked for nowhere else.
  const auto options = read_kubeconfig(text, "", "/nonexistent");
  check(options);
  if (options && options->server.empty()) std::abort();
  const auto sealer = apiserver::Sealer::parse(text, engine.random(), {});
  check(sealer);
  check(apiserver::AuditPolicy::parse(text));
  return 0;
}
