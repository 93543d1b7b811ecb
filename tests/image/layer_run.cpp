// Layers unpacked beside each other show the same tree as a model that knows no directories at all, only a
// table of paths; and every step at which unpacking can fail leaves the store as it was.
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <map>
#include <random>

#include "base/fd.hpp"
#include "image/import.hpp"
#include "image/store.hpp"
#include "orchestra/image_store.hpp"
#include "tests/image/fixtures.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::image;
using namespace orchestra::image::test;
using namespace std::chrono_literals;
using orchestra::test::TempDir;
namespace fs = std::filesystem;

namespace {

struct Node {
  TarType type = TarType::directory;
  std::string content;  ///< or the target of a link
  unsigned mode = 0755;
};
using Tree = std::map<std::string, Node>;

void remove_below(Tree& tree, const std::string& path) {
  for (auto it = tree.lower_bound(path + "/"); it != tree.end() && it->first.starts_with(path + "/");)
    it = tree.erase(it);
}

/// One layer as the test makes it: what the archive says, in order.
struct Step {
  enum class Kind { file, directory, symlink, hard_link, whiteout, opaque } kind;
  std::string path, text;
  unsigned mode = 0644;
};

std::string layer_tar(const std::vector<Step>& steps) {
  TarText tar;
  for (const Step& step : steps) {
    const std::string parent(parent_of(step.path)), name(name_of(step.path));
    const std::string prefix = parent.empty() ? "" : parent + "/";
    switch (step.kind) {
      case Step::Kind::file:
        tar.file(step.path, step.text, step.mode);
        break;
      case Step::Kind::directory:
        tar.directory(step.path, step.mode);
        break;
      case Step::Kind::symlink:
        tar.symlink(step.path, step.text);
        break;
      case Step::Kind::hard_link:
        tar.hard_link(step.path, step.text);
        break;
      case Step::Kind::whiteout:
        tar.file(prefix + ".wh." + name, "");
        break;
      case Step::Kind::opaque:
        tar.file(step.path + "/.wh..wh..opq", "");
        break;
    }
  }
  return tar.finish();
}

/// The rules of layer.md on the table: markers hide what is below the layer, then entries in order.
void apply_to_model(Tree& tree, const std::vector<Step>& steps) {
  for (const Step& step : steps) {
    if (step.kind == Step::Kind::whiteout) {
      remove_below(tree, step.path);
      tree.erase(step.path);
    } else if (step.kind == Step::Kind::opaque) {
      remove_below(tree, step.path);
    }
  }
  const auto make_parents = [&](const std::string& path) {
    for (std::size_t slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1)) {
      Node& node = tree[path.substr(0, slash)];
      if (node.type != TarType::directory) node = Node();
    }
  };
  for (const Step& step : steps) {
    if (step.kind == Step::Kind::whiteout) continue;
    if (step.kind == Step::Kind::opaque) continue;
    make_parents(step.path);
    if (step.kind == Step::Kind::directory) {
      Node& node = tree[step.path];
      if (node.type != TarType::directory) node = Node();
      node.mode = step.mode;
      continue;
    }
    Node made{TarType::file, step.text, step.mode};
    if (step.kind == Step::Kind::symlink) made = {TarType::symlink, step.text, 0777};
    if (step.kind == Step::Kind::hard_link) made = tree.at(step.text);
    remove_below(tree, step.path);
    tree[step.path] = made;
  }
}

/// Random layers whose hard links have a target and whose parents are no links.
std::vector<std::vector<Step>> random_layers(unsigned seed, Tree& model) {
  std::mt19937 random(seed);
  const auto below = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
  const auto path = [&] {
    std::string out;
    const unsigned depth = 1 + below(3);
    for (unsigned i = 0; i < depth; ++i) out += (i > 0 ? "/" : "") + std::string(1, "abcd"[below(4)]);
    return out;
  };
  std::vector<std::vector<Step>> layers;
  for (int layer = 0; layer < 4; ++layer) {
    std::vector<Step> steps;
    const unsigned count = 3 + below(14);
    for (unsigned i = 0; i < count; ++i) {
      Step step{Step::Kind::file, path(), "content " + std::to_string(random()),
                below(2) == 0 ? 0640u : 0755u};
      const unsigned kind = below(10);
      if (kind < 2) step.kind = Step::Kind::directory;
      if (kind == 2) step.kind = Step::Kind::symlink, step.path += "-link", step.text = path();
      if (kind == 3) {
        step.kind = Step::Kind::whiteout;
      }
      if (kind == 4 && below(3) == 0) step.kind = Step::Kind::opaque;
      if (kind == 5 || kind == 6) {
        Tree now = model;
        apply_to_model(now, steps);
        std::vector<std::string> files;
        for (const auto& [name, node] : now) {
          // Making its own parent would end it, and nothing links to itself.
          const bool above = step.path.starts_with(name + "/") || step.path + "-hard" == name;
          if (node.type == TarType::file && !above) files.push_back(name);
        }
        if (!files.empty()) {
          step.kind = Step::Kind::hard_link;
          step.path += "-hard";
          step.text = files[below(static_cast<unsigned>(files.size()))];
        }
      }
      // A marker whose own layer also touches the path from above would be a contradiction.
      if (step.kind == Step::Kind::whiteout || step.kind == Step::Kind::opaque) {
        const bool clash = std::any_of(steps.begin(), steps.end(), [&](const Step& other) {
          return other.kind == Step::Kind::hard_link;
        });
        if (clash) continue;
      }
      steps.push_back(step);
    }
    apply_to_model(model, steps);
    layers.push_back(steps);
  }
  return layers;
}

std::string octal(unsigned mode) {
  char text[16];
  std::snprintf(text, sizeof text, "%o", mode);
  return text;
}

/// Hard-link groups are left out: a link to a lower layer is a copy of its own, as in overlayfs.
std::string show_tree(const Tree& tree) {
  std::string out;
  for (const auto& [path, node] : tree) {
    out += path + " " + static_cast<char>(node.type) + " " +
           (node.type == TarType::symlink ? "" : octal(node.mode)) + " " + node.content + "\n";
  }
  return out;
}

std::string show_tree(const std::vector<Step>& steps) {
  constexpr const char* kNames[] = {"file", "directory", "symlink", "hard link", "whiteout", "opaque"};
  std::string out;
  for (const Step& step : steps) {
    out += std::string(kNames[static_cast<int>(step.kind)]) + " " + step.path + " " + octal(step.mode) + " " +
           step.text + "\n";
  }
  return out;
}

Tree read_tree(const std::string& root) {
  Tree out;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    struct stat status {};
    REQUIRE(::lstat(entry.path().c_str(), &status) == 0);
    Node node;
    node.mode = status.st_mode & 07777;
    if (S_ISREG(status.st_mode)) {
      node.type = TarType::file;
      node.content = read_file(entry.path(), 1 << 20).value();
    } else if (S_ISLNK(status.st_mode)) {
      node.type = TarType::symlink;
      node.content = fs::read_symlink(entry.path());
    }
    out[entry.path().lexically_relative(root)] = node;
  }
  return out;
}

}  // namespace

TEST_CASE("layers unpacked in parallel show_tree the tree that layer.md describes") {
  const TempDir dir;
  Engine engine;
  const auto store = ImageStore::open(engine, {.dir = dir / "store"}).value();
  for (unsigned seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    Tree model;
    std::vector<std::string> tars;
    const auto layers = random_layers(seed, model);
    std::string steps;
    for (const auto& layer : layers) {
      tars.push_back(layer_tar(layer));
      steps += "---\n" + show_tree(layer);
    }
    CAPTURE(steps);
    const std::string name = "random:" + std::to_string(seed);
    REQUIRE(write_file(dir / "image.tar", docker_archive(name, tars)));
    const auto imported = store->import(dir / "image.tar").wait(60s);
    REQUIRE_MESSAGE(imported, (imported ? "" : imported.error().to_string()));
    const auto plan = store->prepare_root(name, "look", Isolation::process).wait(60s).value();
    CHECK(show_tree(read_tree(plan.directory)) == show_tree(model));
    REQUIRE(store->release_root("look").wait(60s));
  }
}

TEST_CASE("a parent that is a link below: the layer is unpacked through it") {
  const TempDir dir;
  Engine engine;
  const auto store = ImageStore::open(engine, {.dir = dir / "store"}).value();
  const std::vector<std::string> layers{
      TarText().directory("usr").directory("usr/bin", 0711).symlink("bin", "usr/bin").finish(),
      TarText().file("bin/tool", "1").hard_link("bin/other", "bin/tool").finish()};
  REQUIRE(write_file(dir / "image.tar", docker_archive("linked:1", layers)));
  REQUIRE(store->import(dir / "image.tar").wait(60s));
  const auto plan = store->prepare_root("linked:1", "look", Isolation::process).wait(60s).value();
  CHECK(fs::is_symlink(plan.directory + "/bin"));
  CHECK(read_file(plan.directory + "/usr/bin/tool", 10).value() == "1");
  CHECK(read_file(plan.directory + "/bin/other", 10).value() == "1");
  struct stat status {};
  REQUIRE(::stat((plan.directory + "/usr/bin").c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0711);
}

TEST_CASE("an error at any step of an import leaves nothing behind, and the next one is whole") {
  const std::vector<std::string> layers{TarText().file("a", "1").finish(), TarText().file("b", "2").finish(),
                                        TarText().hard_link("c", "a").finish()};
  const TempDir dir;
  REQUIRE(write_file(dir / "image.tar", docker_archive("app:1", layers)));
  Engine engine;
  bool failed = true;
  int steps = 0;
  for (int at = 1; failed && at < 200; ++at) {
    CAPTURE(at);
    std::atomic<int> count{0};
    ImageStoreOptions options;
    options.dir = dir / ("store" + std::to_string(at));
    {
      std::atomic<bool> armed{false};
      const auto store = Store::open(engine, options, [&](const char* step) -> Result<void> {
                           if (!armed || ++count != at) return {};
                           return Error(Error::no_space, "image", std::string("no space at ") + step);
                         }).value();
      armed = true;
      const auto imported = import_archive(*store, dir / "image.tar", {});
      armed = false;
      failed = !imported;
      if (failed) {
        steps = at;
        CHECK(imported.error().is(Error::no_space));
        CHECK(store->names().empty());
        CHECK(fs::is_empty(options.dir + "/ingest"));
        for (const auto& entry : fs::directory_iterator(options.dir + "/layers"))
          CHECK_FALSE(entry.path().filename().string().starts_with("tmp-"));
      }
      const auto again = import_archive(*store, dir / "image.tar", {});
      REQUIRE_MESSAGE(again, (again ? "" : again.error().to_string()));
    }
    const auto opened = Store::open(engine, options).value();
    const auto plan = opened->prepare_root("app:1", "look", Isolation::process);
    REQUIRE(plan);
    CHECK(read_file(plan->directory + "/c", 10).value() == "1");
    fs::remove_all(options.dir);
  }
  CHECK_FALSE(failed);
  CHECK(steps > 15);
}
