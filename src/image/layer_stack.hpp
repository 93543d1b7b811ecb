#pragma once
// LayerStack: a pile of directories seen as overlayfs would show it, without mounting anything.
//
// Used to unpack a layer over those below it (parents, hard links), to copy an image into a plain
// directory, and to read /etc/passwd of a root that is not mounted here. No symbolic link is ever
// followed by the kernel: resolve() does it in this code, and cannot leave the stack.
#include <sys/stat.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.hpp"
#include "orchestra/result.hpp"

namespace orchestra::image {

inline constexpr int kSymlinksMax = 40;  // as the kernel's MAXSYMLINKS

/// The parts of a path that came from outside: "/", "." and empty parts vanish, ".." is refused, and so
/// are zero bytes. No parts: the root itself. The one function that decides this.
Result<std::vector<std::string>> split_path(std::string_view path);
std::string join_path(const std::vector<std::string>& parts);
/// "a/b/c" -> "a/b"; "c" -> "".
std::string_view parent_of(std::string_view path);
std::string_view name_of(std::string_view path);

/// Opens `path` ("" = the directory itself) below `directory`; no component may be a symbolic link, but
/// for the last one with O_PATH|O_NOFOLLOW. One openat2, or a walk with O_NOFOLLOW where it is missing.
Result<Fd> open_beneath(int directory, std::string_view path, int flags, mode_t mode = 0);
Result<std::vector<std::string>> list_directory(int directory);  ///< names, sorted
/// Removes NAME and all below it; nothing else, whatever it is.
Result<void> remove_entry(int directory, const std::string& name);

bool is_whiteout(const struct stat& status);
bool is_opaque(int directory);
/// trusted.overlay.opaque as root, else user.overlay.opaque.
Result<void> mark_opaque(int directory);
Result<std::string> read_link_at(int directory, const std::string& name);

class LayerStack {
 public:
  LayerStack() = default;
  /// Directories, top first.
  explicit LayerStack(std::vector<Fd> top_first) : layers_(std::move(top_first)) {}
  static Result<LayerStack> open(const std::vector<std::string>& top_first);

  struct Found {
    std::size_t layer = 0;
    std::string path;
    struct stat status {};
  };
  /// What stands at exactly `path`; a symbolic link is found as such.
  Result<std::optional<Found>> lookup(std::string_view path) const;
  /// `path` with all symbolic links in it followed inside the stack. Parts that do not exist stay.
  /// `follow_last`: also a link at the very end.
  Result<std::string> resolve(std::string_view path, bool follow_last = true) const;
  /// Names in the directory `path`, merged and sorted; without whiteouts.
  Result<std::vector<std::string>> list(std::string_view path) const;
  Result<Fd> open_found(const Found& found, int flags) const;
  /// Follows links. Nothing if there is no such file.
  Result<std::optional<std::string>> read_file(std::string_view path, std::size_t bytes_max) const;

  bool empty() const { return layers_.empty(); }
  std::size_t size() const { return layers_.size(); }
  int layer(std::size_t index) const { return layers_[index].get(); }

 private:
  enum class Below : std::uint8_t { seen_through, hidden };
  Result<Below> below(int layer, std::string_view path) const;
  std::vector<Fd> layers_;
};

}  // namespace orchestra::image
