// Paths below a volume: made where they are missing, and never outside of it.
#include "node/volumes.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "base/fd.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::node;
namespace fs = std::filesystem;

TEST_CASE("a path below a volume is made inside of it, through whatever links lie there") {
  test::TempDir dir;
  const std::string volume = fs::canonical(dir.path()).string() + "/volume";
  fs::create_directories(volume + "/data");
  fs::create_directories(dir / "outside");
  CHECK(resolve_inside(volume, "data", true).value() == volume + "/data");
  CHECK(resolve_inside(volume, "a/b", true).value() == volume + "/a/b");
  CHECK(fs::is_directory(volume + "/a/b"));
  CHECK(resolve_inside(volume, "nothing", false).error().is(Error::not_found));
  CHECK(resolve_inside(volume, "../outside", true).error().is(Error::invalid));
  CHECK(resolve_inside(volume, "a/../../outside", true).error().is(Error::invalid));
  // A link out of the volume is looked up as if the volume were the whole machine.
  fs::create_symlink("/etc", volume + "/etc-of-the-machine");
  fs::create_symlink("../../..", volume + "/up");
  fs::create_symlink(dir / "outside", volume + "/away");
  fs::create_directories(volume + "/etc");
  CHECK(resolve_inside(volume, "etc-of-the-machine", true).value() == volume + "/etc");
  CHECK(resolve_inside(volume, "up", true).value() == volume);
  CHECK(resolve_inside(volume, "up/data", true).value() == volume + "/data");
  const auto away = resolve_inside(volume, "away/made", true);
  if (away) CHECK(away->starts_with(volume + "/"));
  CHECK(fs::is_empty(dir / "outside"));
}
