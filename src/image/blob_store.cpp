// Commit order: write, size, digest, fsync, rename, fsync of the folder (spec: never a visible bad blob).
#include "image/blob_store.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "image/layer_stack.hpp"

namespace orchestra::image {
namespace {

constexpr std::size_t kBufferBytes = 256 << 10;
constexpr std::chrono::nanoseconds kPartLife = std::chrono::hours(24);

Result<std::vector<std::string>> list_names(const std::string& path) {
  ORC_ASSIGN(const Fd directory, open_file(path, O_RDONLY | O_DIRECTORY));
  return list_directory(directory.get());
}

/// A full disk names what there is.
Error with_space(const Error& error, const std::string& path) {
  struct statvfs status {};
  if (!error.is(Error::no_space) || ::statvfs(path.substr(0, path.rfind('/')).c_str(), &status) != 0)
    return error;
  return Error(Error::no_space, "image",
               error.message() + "; " + std::to_string(status.f_bavail * status.f_frsize) +
                   " bytes are free: remove images or run `orchestra image gc`");
}

}  // namespace

BlobStore::Writer::~Writer() {
  growing_->end(false);
  if (!path_.empty() && !keep_) ::unlink(path_.c_str());
}

Result<void> BlobStore::Writer::write(std::string_view bytes) {
  ORC_TRY(store_.at_step("blob write"));
  hasher_.update(bytes);
  if (auto written = write_all(file_.get(), bytes); !written) {
    // On a full disk nothing of this may stay.
    if (written.error().is(Error::no_space)) keep_ = false;
    return with_space(written.error(), path_);
  }
  growing_->advance(bytes.size());
  return {};
}

Result<void> BlobStore::Writer::restart() {
  growing_->end(false);
  growing_ = std::make_shared<GrowingFile>();
  hasher_ = Hasher(algorithm_);
  // A fresh file: somebody may still read the old one.
  ::unlink(path_.c_str());
  ORC_ASSIGN(file_, open_file(path_, O_RDWR | O_CREAT | O_EXCL, 0600));
  return {};
}

Result<std::string> BlobStore::Writer::commit(std::optional<std::uint64_t> size, std::string_view digest) {
  const auto mismatch = [&](const std::string& why) {
    keep_ = false;
    return Error(Error::corrupt, "image", why);
  };
  if (size && *size != hasher_.bytes()) {
    return mismatch("content of " + std::to_string(hasher_.bytes()) + " bytes, expected " +
                    std::to_string(*size) + (digest.empty() ? "" : " for " + std::string(digest)));
  }
  const std::string actual = hasher_.finish();
  if (!digest.empty() && digest != actual) {
    return mismatch("content has digest " + actual + ", expected " + std::string(digest));
  }
  if (store_.has(actual)) {
    store_.touch(actual);
    keep_ = false;
    growing_->end(true);
    return actual;  // the destructor removes our copy
  }
  ORC_TRY(store_.at_step("blob sync"));
  if (::fsync(file_.get()) != 0) return system_error("image", "fsync", path_, errno);
  const std::string target = store_.path_of(actual);
  ORC_TRY(store_.at_step("blob rename"));
  if (::rename(path_.c_str(), target.c_str()) != 0) return system_error("image", "rename", target, errno);
  path_.clear();
  growing_->end(true);
  ORC_TRY(store_.at_step("blob folder sync"));
  ORC_ASSIGN(const Fd folder, open_file(target.substr(0, target.rfind('/')), O_RDONLY | O_DIRECTORY));
  if (::fsync(folder.get()) != 0) return system_error("image", "fsync", target, errno);
  return actual;
}

Result<void> BlobStore::open(std::int64_t wall_ns) {
  for (const char* name : {"/blobs/sha256", "/blobs/sha512", "/ingest"}) {
    ORC_TRY(make_directories(directory_ + name, 0700));
  }
  const std::string layout = directory_ + "/oci-layout";
  if (::access(layout.c_str(), F_OK) != 0) {
    ORC_TRY(replace_file(layout, "{\"imageLayoutVersion\":\"1.0.0\"}", 0644, true));
  }
  ORC_ASSIGN(const auto left_over, list_names(directory_ + "/ingest"));
  for (const std::string& name : left_over) {
    const std::string path = directory_ + "/ingest/" + name;
    struct stat status {};
    const bool young = ::stat(path.c_str(), &status) == 0 &&
                       wall_ns - status.st_mtim.tv_sec * std::int64_t{1'000'000'000} < kPartLife.count();
    if (!name.ends_with(".part") || !young) ORC_TRY(remove_tree(path));
  }
  return {};
}

std::string BlobStore::part_path(const std::string& digest) const {
  return directory_ + "/ingest/" + std::string(digest_algorithm(digest)) + "-" +
         std::string(digest_hex(digest)) + ".part";
}

void BlobStore::remove_part(const std::string& digest) { ::unlink(part_path(digest).c_str()); }

Result<std::unique_ptr<BlobStore::Writer>> BlobStore::begin_part(const std::string& digest) {
  ORC_TRY(check_digest(digest));
  const std::string path = part_path(digest);
  ORC_ASSIGN(Fd file, open_file(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  std::unique_ptr<Writer> writer(new Writer(*this, std::move(file), path, digest_algorithm(digest), true));
  std::vector<char> buffer(kBufferBytes);
  while (true) {
    const ssize_t got = ::read(writer->file_.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error("image", "read", path, errno);
    if (got == 0) return writer;
    writer->hasher_.update({buffer.data(), static_cast<std::size_t>(got)});
    writer->growing_->advance(static_cast<std::uint64_t>(got));
  }
}

std::string BlobStore::temporary_path() { return directory_ + "/ingest/" + std::to_string(++next_); }

Result<std::unique_ptr<BlobStore::Writer>> BlobStore::begin(std::string_view algorithm) {
  std::string path = temporary_path();
  ORC_ASSIGN(Fd file, open_file(path, O_WRONLY | O_CREAT | O_EXCL, 0600));
  return std::unique_ptr<Writer>(new Writer(*this, std::move(file), std::move(path), algorithm, false));
}

Result<std::string> BlobStore::put(std::string_view bytes) {
  ORC_ASSIGN(const auto writer, begin());
  ORC_TRY(writer->write(bytes));
  return writer->commit();
}

Result<std::string> BlobStore::put(ByteSource& source, std::uint64_t bytes_max,
                                   std::optional<std::uint64_t> size, std::string_view digest) {
  ORC_ASSIGN(const auto writer, begin(digest.empty() ? "sha256" : digest_algorithm(digest)));
  std::vector<char> buffer(kBufferBytes);
  while (true) {
    ORC_ASSIGN(const std::size_t got, source.read(buffer.data(), buffer.size()));
    if (got == 0) return writer->commit(size, digest);
    if (writer->bytes() + got > std::min(bytes_max, size.value_or(bytes_max))) {
      return Error(Error::too_large, "image",
                   "content is longer than the " +
                       std::to_string(std::min(bytes_max, size.value_or(bytes_max))) +
                       " bytes that were announced or allowed");
    }
    ORC_TRY(writer->write({buffer.data(), got}));
  }
}

std::string BlobStore::path_of(std::string_view digest) const {
  return directory_ + "/blobs/" + std::string(digest_algorithm(digest)) + "/" +
         std::string(digest_hex(digest));
}

bool BlobStore::has(std::string_view digest) const {
  return is_digest(digest) && ::access(path_of(digest).c_str(), F_OK) == 0;
}

void BlobStore::touch(std::string_view digest) const {
  (void)::utimensat(AT_FDCWD, path_of(digest).c_str(), nullptr, 0);
}

Result<Fd> BlobStore::open_blob(std::string_view digest) const {
  ORC_TRY(check_digest(digest));
  auto file = open_file(path_of(digest), O_RDONLY);
  if (!file && file.error().is(Error::not_found)) {
    return Error(Error::not_found, "image", "the store has no content " + std::string(digest));
  }
  return file;
}

Result<std::uint64_t> BlobStore::size(std::string_view digest) const {
  ORC_ASSIGN(const Fd file, open_blob(digest));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return system_error("image", "fstat", digest, errno);
  return static_cast<std::uint64_t>(status.st_size);
}

Result<std::string> BlobStore::read(std::string_view digest, std::size_t bytes_max) const {
  ORC_ASSIGN(Fd file, open_blob(digest));
  const auto source = make_file_source(std::move(file));
  ORC_ASSIGN(std::string bytes, read_to_end(*source, bytes_max));
  Hasher hasher(digest_algorithm(digest));
  hasher.update(bytes);
  if (hasher.finish() != digest) {
    return Error(Error::corrupt, "image",
                 "stored content " + std::string(digest) + " does not match its digest");
  }
  return bytes;
}

Result<std::vector<std::string>> BlobStore::list() const {
  std::vector<std::string> out;
  for (const std::string algorithm : {"sha256", "sha512"}) {
    ORC_ASSIGN(const auto names, list_names(directory_ + "/blobs/" + algorithm));
    for (const std::string& name : names) {
      if (is_digest(algorithm + ":" + name)) out.push_back(algorithm + ":" + name);
    }
  }
  return out;
}

Result<void> BlobStore::remove(std::string_view digest) {
  ORC_TRY(check_digest(digest));
  if (::unlink(path_of(digest).c_str()) == 0 || errno == ENOENT) return {};
  return system_error("image", "unlink", digest, errno);
}

}  // namespace orchestra::image
