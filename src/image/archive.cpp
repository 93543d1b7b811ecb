// Random access to tar files: one pass makes the table of names, then pieces are read by pread.
#include "image/archive.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "image/layer_stack.hpp"
#include "image/tar.hpp"

namespace orchestra::image {
namespace {

constexpr std::uint64_t kSpoolBytesMax = std::uint64_t{64} << 30;
constexpr int kLinksMax = 10;

Error missing(const std::string& name) {
  return Error(Error::not_found, "image", "the archive has no " + name);
}

class TarArchive : public Archive {
 public:
  explicit TarArchive(Fd file) : file_(std::move(file)) {}

  Result<void> index() {
    struct stat status {};
    if (::fstat(file_.get(), &status) != 0) return system_error("image", "fstat", "archive", errno);
    const auto source = make_range_source(file_.get(), 0, static_cast<std::uint64_t>(status.st_size));
    TarReader tar(*source);
    while (true) {
      ORC_ASSIGN(const auto entry, tar.next());
      if (!entry) return {};
      ORC_ASSIGN(const auto parts, split_path(entry->path));
      if (entry->type == TarType::directory || parts.empty()) continue;
      Piece piece;
      piece.offset = tar.data_offset();
      piece.size = entry->size;
      if (entry->sparse)
        return Error(Error::unsupported, "image", "sparse entry " + entry->path + " in an image archive");
      if (entry->type == TarType::symlink) {
        // Relative to the entry's folder: "../ID/layer.tar" of docker save.
        std::vector<std::string> target(parts.begin(), parts.end() - 1);
        ORC_TRY(follow(entry->link, target));
        piece.link = join_path(target);
      } else if (entry->type == TarType::hard_link) {
        ORC_ASSIGN(const auto target, split_path(entry->link));
        piece.link = join_path(target);
      } else if (entry->type != TarType::file) {
        continue;
      }
      pieces_[join_path(parts)] = piece;
    }
  }

  Result<std::unique_ptr<ByteSource>> open(const std::string& name) override {
    const Piece* piece = find(name);
    if (piece == nullptr) return missing(name);
    used_.insert(name);
    return make_range_source(file_.get(), piece->offset, piece->size);
  }
  bool has(const std::string& name) override { return find(name) != nullptr; }
  std::uint64_t unused() const override {
    return pieces_.size() > used_.size() ? pieces_.size() - used_.size() : 0;
  }

 private:
  struct Piece {
    std::uint64_t offset = 0, size = 0;
    std::string link;
  };

  static Result<void> follow(const std::string& link, std::vector<std::string>& at) {
    if (link.starts_with('/')) at.clear();
    for (std::size_t start = 0; start <= link.size();) {
      const std::size_t slash = std::min(link.find('/', start), link.size());
      const std::string part = link.substr(start, slash - start);
      if (part == "..") {
        if (at.empty())
          return Error(Error::corrupt, "image", "the link " + link + " leads out of the archive");
        at.pop_back();
      } else if (!part.empty() && part != ".") {
        at.push_back(part);
      }
      start = slash + 1;
    }
    return {};
  }

  const Piece* find(const std::string& name) {
    std::string at = name.starts_with("./") ? name.substr(2) : name;
    for (int links = 0; links < kLinksMax; ++links) {
      const auto found = pieces_.find(at);
      if (found == pieces_.end()) return nullptr;
      if (found->second.link.empty()) return &found->second;
      used_.insert(at);
      at = found->second.link;
    }
    return nullptr;
  }

  Fd file_;
  std::map<std::string, Piece> pieces_;
  std::set<std::string> used_;
};

class FolderArchive : public Archive {
 public:
  explicit FolderArchive(Fd root) : root_(std::move(root)) {}
  Result<std::unique_ptr<ByteSource>> open(const std::string& name) override {
    auto file = open_in_root(root_, name, O_RDONLY | O_NONBLOCK);
    if (!file) return file.error().is(Error::not_found) ? missing(name) : file.error();
    struct stat status {};
    if (::fstat(file->get(), &status) != 0 || !S_ISREG(status.st_mode)) {
      return Error(Error::invalid, "image", name + " is not a file");
    }
    return make_file_source(std::move(*file));
  }
  bool has(const std::string& name) override { return open_in_root(root_, name, O_PATH).has_value(); }
  std::uint64_t unused() const override { return 0; }

 private:
  Fd root_;
};

Result<Fd> spool(ByteSource& source, const std::string& path) {
  ORC_ASSIGN(Fd file, open_file(path, O_RDWR | O_CREAT | O_EXCL, 0600));
  ::unlink(path.c_str());
  std::vector<char> buffer(256 << 10);
  std::uint64_t bytes = 0;
  while (true) {
    ORC_ASSIGN(const std::size_t got, source.read(buffer.data(), buffer.size()));
    if (got == 0) return file;
    bytes += got;
    if (bytes > kSpoolBytesMax)
      return Error(Error::too_large, "image", "the archive unpacks to more than 64 GiB");
    ORC_TRY(write_all(file.get(), {buffer.data(), got}));
  }
}

}  // namespace

Result<std::string> Archive::read(const std::string& name, std::size_t bytes_max) {
  ORC_ASSIGN(const auto source, open(name));
  auto bytes = read_to_end(*source, bytes_max);
  if (!bytes) return bytes.error().with_context(name);
  return bytes;
}

Result<std::unique_ptr<Archive>> open_archive(const std::string& path, const std::string& spool_path) {
  ORC_ASSIGN(Fd file, open_file(path, O_RDONLY));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return system_error("image", "fstat", path, errno);
  if (S_ISDIR(status.st_mode))
    return std::unique_ptr<Archive>(std::make_unique<FolderArchive>(std::move(file)));
  char head[8] = {};
  const ssize_t got = ::pread(file.get(), head, sizeof head, 0);
  const bool seekable = S_ISREG(status.st_mode) && got >= 0;
  const bool plain =
      seekable && detect_compression({head, static_cast<std::size_t>(got)}) == Compression::none;
  if (!plain) {
    ORC_ASSIGN(const auto source, decompress(make_file_source(std::move(file))));
    ORC_ASSIGN(file, spool(*source, spool_path));
  }
  auto archive = std::make_unique<TarArchive>(std::move(file));
  ORC_TRY(archive->index());
  return std::unique_ptr<Archive>(std::move(archive));
}

}  // namespace orchestra::image
