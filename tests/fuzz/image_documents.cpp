// References, manifests, configurations, challenges, credential files and Dockerfiles under arbitrary text.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "image/build/dockerfile.hpp"
#include "image/build/ignore.hpp"
#include "image/manifest.hpp"
#include "image/registry/auth.hpp"
#include "image/user.hpp"
#include "orchestra/image_reference.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra;
  using namespace orchestra::image;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto reference = ImageReference::parse(text)) {
    const auto again = ImageReference::parse(reference->familiar());
    if (!again || again->canonical() != reference->canonical()) std::abort();
  }
  if (const auto document = parse_document(text)) {
    if (const auto* index = std::get_if<Index>(&*document)) (void)choose_platform(*index, host_platform());
  }
  if (const auto config = parse_config(text); config && config->diff_ids.size() > kLayersMax) std::abort();
  (void)parse_challenges(text);
  (void)parse_docker_config(text);
  (void)find_user(text.substr(0, text.find('\n')), text, text);
  if (const auto file = parse_dockerfile(text)) {
    if (file->stages.empty()) std::abort();
    for (const Stage& stage : file->stages) {
      for (const Instruction& one : stage.instructions) {
        (void)split_assignments(one, file->escape);
        (void)expand_word(one.rest, {{"a", "b"}}, file->escape);
      }
    }
  }
  (void)IgnoreList(text).ignores("a/b/c");
  (void)match_path(text, "some/path/of/files");
  return 0;
}
