// Rules on the source itself: the generic engine knows no kind by name.
#include <fstream>
#include <regex>
#include <sstream>

#include "api/types.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;

TEST_CASE("no file in src/apiserver names a kind, and none knows where they are named") {
  const std::filesystem::path folder = ORCHESTRA_SOURCE_DIR "/src/apiserver";
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_regular_file() || name == "area.cmake") continue;
    std::ifstream file(entry.path());
    std::stringstream text;
    text << file.rdbuf();
    // String literals only: comments may speak of pods.
    const std::string source = text.str();
    CHECK_MESSAGE(source.find("#include \"kinds/") == std::string::npos, name);
    for (const api::TypePtr& type : api::TypeRegistry::builtin()->records()) {
      // In a path this word is a scope before it is a resource.
      if (name == "request_path.cpp" && type->plural == "namespaces") continue;
      INFO(name << " names " << type->plural);
      CHECK(source.find("\"" + type->plural + "\"") == std::string::npos);
      CHECK(source.find("\"" + type->kind + "\"") == std::string::npos);
    }
    ++files;
  }
  CHECK(files > 30);
}
