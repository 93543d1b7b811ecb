// Sources are found by patterns; directories give their content, files go under their name or the
// destination's. Destination paths are resolved inside the image, links included.
#include "image/build/copy_plan.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <tuple>

#include "image/byte_source.hpp"
#include "image/digest.hpp"
#include "image/transfers.hpp"
#include "orchestra/env.hpp"

namespace orchestra::image {
namespace {

constexpr int kDepthMax = 1000;
constexpr std::uint64_t kAddArchiveBytesMax = std::uint64_t{32} << 30;

std::string join(const std::string& parent, std::string_view name) {
  return parent.empty() ? std::string(name) : parent + "/" + std::string(name);
}

bool has_pattern(std::string_view text) { return text.find_first_of("*?[\\") != std::string_view::npos; }

class Planner {
 public:
  explicit Planner(const CopySpec& spec) : spec_(spec) {}

  Result<CopyPlan> run() {
    const std::string& wanted = spec_.destination;
    const bool as_directory =
        wanted.ends_with('/') || wanted == "." || wanted.ends_with("/.") || wanted == "..";
    if (spec_.sources.size() > 1 && !as_directory) {
      return Error(Error::invalid, "image", "several sources need a destination that ends with /: " + wanted);
    }
    ORC_ASSIGN(destination_, spec_.image->resolve(absolute_path(wanted, spec_.working_directory)));
    for (const std::string& source : spec_.sources) {
      ORC_ASSIGN(const auto matches, find_sources(source));
      if (matches.size() > 1 && !as_directory) {
        return Error(Error::invalid, "image",
                     source + " fits " + std::to_string(matches.size()) +
                         " files; the destination must end with /: " + wanted);
      }
      for (const LayerStack::Found& match : matches) {
        if (spec_.parents) {
          ORC_TRY(add_with_parents(source, match));
        } else {
          ORC_TRY(add_source(match, as_directory));
        }
      }
    }
    ORC_TRY(hash());
    return std::move(plan_);
  }

 private:
  /// What a source word means: one path, or all that fit its pattern, in order.
  Result<std::vector<LayerStack::Found>> find_sources(const std::string& text) {
    auto parts = split_path(text);
    if (!parts) {
      return Error(Error::invalid, "image", text + " leads out of the " + where());
    }
    std::vector<LayerStack::Found> out;
    if (!has_pattern(text)) {
      // Links on the way are followed inside of the tree; one at the very end is copied as a link.
      ORC_ASSIGN(const std::string path, spec_.source->resolve(join_path(*parts), false));
      if (!path.empty() && ignored(path)) return missing(text, " (it is excluded by .dockerignore)");
      ORC_ASSIGN(auto found, spec_.source->lookup(path));
      if (!found) return missing(text, "");
      out.push_back(std::move(*found));
      return out;
    }
    ORC_TRY(match_patterns("", *parts, 0, out));
    if (out.empty()) return missing(text, "");
    return out;
  }

  std::string where() const {
    return spec_.remote ? "fetched files" : spec_.ignore != nullptr ? "context" : "stage";
  }

  Error missing(const std::string& text, const std::string& why) const {
    return Error(Error::not_found, "image", "no \"" + text + "\" in the " + where() + why);
  }

  Result<void> match_patterns(const std::string& directory, const std::vector<std::string>& parts,
                              std::size_t index, std::vector<LayerStack::Found>& out) {
    ORC_ASSIGN(const auto names, spec_.source->list(directory));
    for (const std::string& name : names) {
      if (!match_path(parts[index], name)) continue;
      const std::string path = join(directory, name);
      ORC_ASSIGN(auto found, spec_.source->lookup(path));
      if (!found) continue;
      if (index + 1 < parts.size()) {
        if (S_ISDIR(found->status.st_mode)) ORC_TRY(match_patterns(path, parts, index + 1, out));
      } else if (!ignored(path) || S_ISDIR(found->status.st_mode)) {
        out.push_back(std::move(*found));
      }
    }
    return {};
  }

  bool ignored(const std::string& path) const {
    return spec_.ignore != nullptr && !spec_.ignore->empty() && spec_.ignore->ignores(path);
  }

  /// --exclude, against the path below the source that is being copied.
  bool excluded(const std::string& path) const {
    if (spec_.exclude.empty()) return false;
    const std::string inner =
        base_.empty() || !path.starts_with(base_ + "/") ? path : path.substr(base_.size() + 1);
    return spec_.exclude.ignores(inner);
  }

  /// --parents: "a/./b/c" goes to DESTINATION/b/c, "b/c" too.
  Result<void> add_with_parents(const std::string& source, const LayerStack::Found& found) {
    std::string base;
    if (const std::size_t pivot = source.find("/./"); pivot != std::string::npos) {
      ORC_ASSIGN(const auto parts, split_path(source.substr(0, pivot)));
      base = join_path(parts);
    }
    const std::string inner =
        base.empty() || !found.path.starts_with(base + "/") ? found.path : found.path.substr(base.size() + 1);
    base_ = S_ISDIR(found.status.st_mode) ? found.path : std::string(parent_of(found.path));
    ORC_TRY(add_directory(destination_));
    for (std::size_t slash = inner.find('/'); slash != std::string::npos;
         slash = inner.find('/', slash + 1)) {
      const std::string folder = inner.substr(0, slash);
      ORC_ASSIGN(const auto from, spec_.source->lookup(join(base, folder)));
      const std::string target = join(destination_, folder);
      ORC_ASSIGN(const auto there, spec_.image->lookup(target));
      const bool known = !seen_folders_.insert(target).second;
      if (!known && from && !(there && S_ISDIR(there->status.st_mode))) ORC_TRY(add_entry(*from, target));
    }
    const std::string target = join(destination_, inner);
    if (!S_ISDIR(found.status.st_mode)) return add_entry(found, target);
    ORC_ASSIGN(const auto there, spec_.image->lookup(target));
    if (seen_folders_.insert(target).second && !(there && S_ISDIR(there->status.st_mode)))
      ORC_TRY(add_entry(found, target));
    return add_content(found.path, target, 0);
  }

  Result<void> add_source(const LayerStack::Found& found, bool as_directory) {
    base_ = S_ISDIR(found.status.st_mode) ? found.path : std::string(parent_of(found.path));
    if (S_ISDIR(found.status.st_mode)) {
      ORC_TRY(add_directory(destination_));
      return add_content(found.path, destination_, 0);
    }
    ORC_ASSIGN(const auto there, spec_.image->lookup(destination_));
    const bool into = as_directory || (there && S_ISDIR(there->status.st_mode)) || destination_.empty();
    if (spec_.unpack_archives && S_ISREG(found.status.st_mode)) {
      ORC_ASSIGN(const bool archive, is_archive(found));
      if (archive) {
        CopyItem item;
        item.entry = directory_entry(destination_);
        item.archive = found;
        return push(std::move(item));
      }
    }
    if (excluded(found.path)) return {};
    if (into) ORC_TRY(add_directory(destination_));
    return add_entry(found, into ? join(destination_, name_of(found.path)) : destination_);
  }

  Result<bool> is_archive(const LayerStack::Found& found) {
    ORC_ASSIGN(Fd file, spec_.source->open_found(found, O_RDONLY));
    auto plain = decompress(make_file_source(std::move(file)));
    if (!plain) return false;
    TarReader tar(**plain);
    const auto first = tar.next();
    return first && first->has_value();
  }

  static TarEntry directory_entry(const std::string& path) {
    TarEntry entry;
    entry.type = TarType::directory;
    entry.path = path;
    entry.mode = 0755;
    return entry;
  }

  /// A directory that the image does not have yet.
  Result<void> add_directory(const std::string& path) {
    if (path.empty()) return {};
    ORC_ASSIGN(const auto there, spec_.image->lookup(path));
    if (there && S_ISDIR(there->status.st_mode)) return {};
    CopyItem item;
    item.entry = directory_entry(path);
    if (spec_.owner) std::tie(item.entry.uid, item.entry.gid) = *spec_.owner;
    return push(std::move(item));
  }

  Result<void> add_content(const std::string& directory, const std::string& target, int depth) {
    if (depth > kDepthMax)
      return Error(Error::too_large, "image", "a tree deeper than 1,000 at " + directory);
    ORC_ASSIGN(const auto names, spec_.source->list(directory));
    for (const std::string& name : names) {
      const std::string path = join(directory, name);
      ORC_ASSIGN(const auto found, spec_.source->lookup(path));
      if (!found) continue;
      const bool is_directory = S_ISDIR(found->status.st_mode);
      if (excluded(path) && !(is_directory && spec_.exclude.may_take_back())) continue;
      if (ignored(path)) {
        // Something below may be taken back by a `!` pattern; its parents then exist only for it.
        if (is_directory && spec_.ignore->may_take_back())
          ORC_TRY(add_content(path, join(target, name), depth + 1));
        continue;
      }
      if (!is_directory) {
        ORC_TRY(add_entry(*found, join(target, name)));
        continue;
      }
      // A link to a directory in the image is gone through, never replaced.
      ORC_ASSIGN(const std::string real, spec_.image->resolve(join(target, name)));
      ORC_ASSIGN(const auto there, spec_.image->lookup(real));
      if (!there || !S_ISDIR(there->status.st_mode)) ORC_TRY(add_entry(*found, real));
      ORC_TRY(add_content(path, real, depth + 1));
    }
    return {};
  }

  Result<void> add_entry(const LayerStack::Found& found, const std::string& path) {
    if (S_ISSOCK(found.status.st_mode)) return {};
    CopyItem item;
    item.entry = entry_of(found.status);
    item.entry.path = path;
    if (!spec_.keep_owner) item.entry.uid = item.entry.gid = 0;
    if (spec_.owner) std::tie(item.entry.uid, item.entry.gid) = *spec_.owner;
    if (item.entry.type == TarType::symlink) {
      ORC_ASSIGN(const Fd link, spec_.source->open_found(found, O_PATH));
      ORC_ASSIGN(item.entry.link, read_link_at(link.get(), ""));
    } else if (spec_.mode) {
      item.entry.mode = *spec_.mode;
    }
    if (item.entry.type == TarType::file) item.file = found;
    return push(std::move(item));
  }

  Result<void> push(CopyItem item) {
    if (plan_.items.size() >= spec_.files_max) {
      return Error(Error::too_large, "image",
                   "more than " + std::to_string(spec_.files_max) + " files; use .dockerignore");
    }
    plan_.items.push_back(std::move(item));
    return {};
  }

  /// Path, type, mode, owner, link target and bytes of everything; not the times.
  Result<void> hash() {
    std::stable_sort(plan_.items.begin(), plan_.items.end(),
                     [](const CopyItem& a, const CopyItem& b) { return a.entry.path < b.entry.path; });
    std::vector<std::string> digests(plan_.items.size());
    ORC_TRY(hash_contents(digests));
    Hasher all;
    for (std::size_t i = 0; i < plan_.items.size(); ++i) {
      const CopyItem& item = plan_.items[i];
      const TarEntry& entry = item.entry;
      all.update(entry.path + '\0' + static_cast<char>(entry.type) + std::to_string(entry.mode) + ':' +
                 std::to_string(entry.uid) + ':' + std::to_string(entry.gid) + ':' + entry.link + '\0');
      all.update(digests[i] + (item.archive ? "x" : ""));
    }
    plan_.digest = all.finish();
    return {};
  }

  /// Known digests first, the other files read by several workers.
  Result<void> hash_contents(std::vector<std::string>& digests) {
    std::vector<std::size_t> unknown;
    for (std::size_t i = 0; i < plan_.items.size(); ++i) {
      const auto& content = plan_.items[i].file ? plan_.items[i].file : plan_.items[i].archive;
      if (!content) continue;
      if (spec_.hashes != nullptr) digests[i] = spec_.hashes->find(content->status);
      if (digests[i].empty()) unknown.push_back(i);
    }
    constexpr std::size_t kPiece = 256;
    std::vector<Transfer> pieces;
    for (std::size_t start = 0; start < unknown.size(); start += kPiece) {
      pieces.push_back([this, &unknown, &digests, start]() -> Result<void> {
        for (std::size_t i = start; i < std::min(start + kPiece, unknown.size()); ++i) {
          ORC_ASSIGN(digests[unknown[i]], hash_content(plan_.items[unknown[i]]));
        }
        return {};
      });
    }
    if (spec_.engine != nullptr) return run_transfers(*spec_.engine, std::move(pieces));
    for (const Transfer& piece : pieces) ORC_TRY(piece());
    return {};
  }

  Result<std::string> hash_content(const CopyItem& item) const {
    const auto& content = item.file ? item.file : item.archive;
    ORC_ASSIGN(Fd file, spec_.source->open_found(*content, O_RDONLY));
    Hasher hasher;
    char buffer[32 << 10];
    while (true) {
      const ssize_t got = ::read(file.get(), buffer, sizeof buffer);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return system_error("image", "read", content->path, errno);
      if (got == 0) break;
      hasher.update({buffer, static_cast<std::size_t>(got)});
    }
    std::string digest = hasher.finish();
    if (spec_.hashes != nullptr && spec_.engine != nullptr)
      spec_.hashes->put(content->status, digest, spec_.engine->clock().now().wall_ns);
    return digest;
  }

  const CopySpec& spec_;
  std::string destination_, base_;
  std::set<std::string> seen_folders_;
  CopyPlan plan_;
};

/// ADD of a local archive: its entries below `prefix`.
Result<void> unpack_into(const CopySpec& spec, const CopyItem& item, LayerWriter& layer) {
  ORC_ASSIGN(Fd file, spec.source->open_found(*item.archive, O_RDONLY));
  ORC_ASSIGN(auto plain, decompress(make_file_source(std::move(file))));
  HashingSource source(std::move(plain), kAddArchiveBytesMax);
  TarReader tar(source);
  while (true) {
    ORC_ASSIGN(auto entry, tar.next());
    if (!entry) return {};
    ORC_ASSIGN(const auto parts, split_path(entry->path));
    if (parts.empty()) continue;
    if (entry->sparse) return Error(Error::unsupported, "image", "ADD of an archive with sparse files");
    entry->path = join(item.entry.path, join_path(parts));
    if (entry->type == TarType::hard_link) {
      ORC_ASSIGN(const auto target, split_path(entry->link));
      entry->link = join(item.entry.path, join_path(target));
    }
    if (spec.owner) std::tie(entry->uid, entry->gid) = *spec.owner;
    if (entry->type != TarType::file) {
      ORC_TRY(layer.add(*entry));
      continue;
    }
    constexpr std::size_t kFileBytesMax = 1 << 30;
    if (entry->size > kFileBytesMax)
      return Error(Error::too_large, "image", "ADD: " + entry->path + " is over 1 GiB");
    std::string content(static_cast<std::size_t>(entry->size), '\0');
    for (std::size_t filled = 0; filled < content.size();) {
      ORC_ASSIGN(const std::size_t got, tar.read(content.data() + filled, content.size() - filled));
      filled += got;
    }
    ORC_TRY(layer.add(*entry, content));
  }
}

}  // namespace

std::string absolute_path(std::string_view path, std::string_view working_directory) {
  std::string whole(path);
  if (!path.starts_with('/')) whole = std::string(working_directory) + "/" + whole;
  std::vector<std::string> parts;
  for (std::size_t start = 0; start <= whole.size();) {
    const std::size_t slash = std::min(whole.find('/', start), whole.size());
    const std::string part = whole.substr(start, slash - start);
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
    } else if (!part.empty() && part != ".") {
      parts.push_back(part);
    }
    start = slash + 1;
  }
  return join_path(parts);
}

Result<CopyPlan> plan_copy(const CopySpec& spec) { return Planner(spec).run(); }

Result<void> write_copy(const CopyPlan& plan, const CopySpec& spec, LayerWriter& layer) {
  for (const CopyItem& item : plan.items) {
    if (item.archive) {
      ORC_TRY(unpack_into(spec, item, layer));
    } else if (item.file) {
      ORC_ASSIGN(const Fd file, spec.source->open_found(*item.file, O_RDONLY));
      TarEntry entry = item.entry;
      struct stat now {};
      if (::fstat(file.get(), &now) != 0) return system_error("image", "fstat", entry.path, errno);
      if (static_cast<std::uint64_t>(now.st_size) != entry.size) {
        return Error(Error::conflict, "image", item.file->path + " changed while it was copied");
      }
      if (spec.keep_owner) entry.xattrs = read_xattrs(file.get());
      ORC_TRY(layer.add_file(entry, file.get()));
    } else {
      ORC_TRY(layer.add(item.entry));
    }
  }
  return {};
}

}  // namespace orchestra::image
