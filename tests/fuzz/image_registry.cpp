// Bytes of registries and of the files around them: TOML, hosts, registries.conf, links, ranges, waiting
// times, helper answers, mounts, gzip and zstd fronts.
#include <cstdint>
#include <string_view>

#include "image/build/dockerfile.hpp"
#include "image/build/output.hpp"
#include "image/build/remote_source.hpp"
#include "image/build/run_mounts.hpp"
#include "image/byte_source.hpp"
#include "image/registry/credentials.hpp"
#include "image/registry/hosts.hpp"
#include "image/registry/toml.hpp"
#include "image/registry/upload.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra;
  using namespace orchestra::image;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)parse_toml(text);
  (void)parse_hosts_toml(text);
  if (const auto conf = parse_registries_conf(text)) {
    (void)find_registry(*conf, "docker.io/library/x");
    (void)short_name_candidates(*conf, "x:1");
  }
  (void)next_link(text);
  (void)parse_upload_range(text);
  (void)parse_retry_after(text, 0);
  (void)helper_for(text, "a.example");
  (void)parse_helper_answer(text);
  (void)with_login(text, "a.example", "u", "p");
  (void)parse_mount(text);
  (void)parse_output(text);
  (void)kind_of_source(text);
  (void)expand_text(text, {{"a", "b"}}, '\\');
  if (auto plain = decompress(make_memory_source(std::string(text)))) {
    if (const auto bytes = read_to_end(**plain, 1 << 20); bytes && bytes->size() > (1 << 20)) std::abort();
  }
  return 0;
}
