// The real environment: CLOCK_REALTIME and CLOCK_BOOTTIME, the kernel's random numbers, POSIX files.
//
// Random: next() is a splitmix64 stream per thread seeded by getrandom(2); fill() asks the kernel each time.
// Disk: every error names the call, the path and errno (fd.hpp system_error).
#include <dirent.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.hpp"
#include "base/fd.hpp"
#include "base/file_lock.hpp"
#include "orchestra/env.hpp"

namespace orchestra {

namespace {

std::int64_t read_clock(clockid_t id) {
  timespec time{};
  clock_gettime(id, &time);
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

class RealClock final : public Clock {
 public:
  Now now() override { return {read_clock(CLOCK_REALTIME), read_clock(CLOCK_BOOTTIME)}; }
};

class RealRandom final : public Random {
 public:
  std::uint64_t next() override {
    thread_local std::uint64_t state = seed();
    state += 0x9e3779b97f4a7c15ull;
    std::uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  void fill(void* bytes, std::size_t size) override {
    auto* at = static_cast<unsigned char*>(bytes);
    while (size > 0) {
      const ssize_t got = getrandom(at, size, 0);
      if (got < 0 && errno == EINTR) continue;
      ORC_ASSERT_MSG(got > 0, "getrandom failed");
      at += got;
      size -= static_cast<std::size_t>(got);
    }
  }

 private:
  std::uint64_t seed() {
    std::uint64_t value = 0;
    fill(&value, sizeof value);
    return value;
  }
};

class RealFile final : public DiskFile {
 public:
  RealFile(Fd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  Result<std::size_t> read_at(std::uint64_t offset, void* bytes, std::size_t size) override {
    std::size_t done = 0;
    while (done < size) {
      const ssize_t got =
          pread(fd_.get(), static_cast<char*>(bytes) + done, size - done, static_cast<off_t>(offset + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return system_error("disk", "pread", path_, errno);
      if (got == 0) break;
      done += static_cast<std::size_t>(got);
    }
    return done;
  }
  Result<void> write_at(std::uint64_t offset, std::string_view bytes) override {
    while (!bytes.empty()) {
      const ssize_t put = pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return system_error("disk", "pwrite", path_, errno);
      offset += static_cast<std::uint64_t>(put);
      bytes.remove_prefix(static_cast<std::size_t>(put));
    }
    return {};
  }
  Result<void> sync() override {
    if (fdatasync(fd_.get()) != 0) return system_error("disk", "fdatasync", path_, errno);
    return {};
  }
  Result<std::uint64_t> size() override {
    struct stat info {};
    if (fstat(fd_.get(), &info) != 0) return system_error("disk", "fstat", path_, errno);
    return static_cast<std::uint64_t>(info.st_size);
  }
  Result<void> truncate(std::uint64_t size) override {
    if (ftruncate(fd_.get(), static_cast<off_t>(size)) != 0)
      return system_error("disk", "ftruncate", path_, errno);
    return {};
  }
  Result<void> allocate(std::uint64_t size) override {
    const int failed = posix_fallocate(fd_.get(), 0, static_cast<off_t>(size));
    if (failed != 0) return system_error("disk", "fallocate", path_, failed);
    return {};
  }

 private:
  Fd fd_;
  std::string path_;
};

class RealDisk final : public Disk {
 public:
  Result<std::unique_ptr<DiskFile>> open(const std::string& path, Open how) override {
    int flags = O_RDWR;
    if (how == Open::create_new) flags |= O_CREAT | O_EXCL;
    if (how == Open::create_or_open) flags |= O_CREAT;
    ORC_ASSIGN(Fd fd, open_file(path, flags, 0600));
    return std::unique_ptr<DiskFile>(std::make_unique<RealFile>(std::move(fd), path));
  }
  Result<void> make_directories(const std::string& path, unsigned mode) override {
    return orchestra::make_directories(path, mode);
  }
  Result<std::vector<std::string>> list(const std::string& directory) override {
    DIR* stream = opendir(directory.c_str());
    if (stream == nullptr) return system_error("disk", "opendir", directory, errno);
    std::vector<std::string> names;
    while (const dirent* entry = readdir(stream)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
    }
    closedir(stream);
    std::sort(names.begin(), names.end());
    return names;
  }
  Result<void> rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0)
      return system_error("disk", "rename", from + " -> " + to, errno);
    return {};
  }
  Result<void> remove(const std::string& path) override {
    if (unlink(path.c_str()) == 0) return {};
    const int unlink_errno = errno;
    if ((unlink_errno == EISDIR || unlink_errno == EPERM) && rmdir(path.c_str()) == 0) return {};
    return system_error("disk", "unlink", path, unlink_errno);
  }
  Result<void> sync_directory(const std::string& path) override {
    ORC_ASSIGN(Fd fd, open_file(path, O_RDONLY | O_DIRECTORY));
    if (fsync(fd.get()) != 0) return system_error("disk", "fsync", path, errno);
    return {};
  }
  Result<std::uint64_t> free_bytes(const std::string& path) override {
    struct statvfs info {};
    if (statvfs(path.c_str(), &info) != 0) return system_error("disk", "statvfs", path, errno);
    return static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
  }
  bool exists(const std::string& path) override { return access(path.c_str(), F_OK) == 0; }
  Result<std::shared_ptr<void>> lock(const std::string& path) override {
    ORC_ASSIGN(FileLock lock, lock_file(path));
    if (!lock.fd) {
      return Error(Error::busy, "disk",
                   path + " is locked by process " + (lock.holder.empty() ? "(unknown)" : lock.holder) +
                       ": one process owns this folder; stop that process or use another folder");
    }
    return std::shared_ptr<void>(std::make_shared<Fd>(std::move(lock.fd)));
  }
};

}  // namespace

std::uint64_t Random::below(std::uint64_t bound) {
  ORC_ASSERT(bound > 0);
  return static_cast<std::uint64_t>((static_cast<unsigned __int128>(next()) * bound) >> 64);
}

std::string Random::uuid() {
  unsigned char bytes[16];
  fill(bytes, sizeof bytes);
  bytes[6] = static_cast<unsigned char>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<unsigned char>((bytes[8] & 0x3f) | 0x80);
  static constexpr char kHex[] = "0123456789abcdef";
  std::string text;
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += kHex[bytes[i] >> 4];
    text += kHex[bytes[i] & 15];
  }
  return text;
}

Result<std::string> Disk::read_file(const std::string& path, std::uint64_t bytes_max) {
  ORC_ASSIGN(auto file, open(path, Open::existing));
  ORC_ASSIGN(const std::uint64_t size, file->size());
  if (size > bytes_max) {
    return Error(
        Error::too_large, "disk",
        path + " has " + std::to_string(size) + " bytes, at most " + std::to_string(bytes_max) + " are read");
  }
  std::string bytes(size, '\0');
  ORC_ASSIGN(const std::size_t got, file->read_at(0, bytes.data(), bytes.size()));
  bytes.resize(got);
  return bytes;
}

Result<void> Disk::write_file_atomic(const std::string& path, std::string_view bytes, unsigned) {
  const std::string temporary = path + ".tmp";
  if (exists(temporary)) ORC_TRY(remove(temporary));
  {
    ORC_ASSIGN(auto file, open(temporary, Open::create_new));
    ORC_TRY(file->write_at(0, bytes));
    ORC_TRY(file->sync());
  }
  ORC_TRY(rename(temporary, path));
  const std::size_t slash = path.rfind('/');
  return sync_directory(slash == std::string::npos ? "." : path.substr(0, std::max<std::size_t>(slash, 1)));
}

Clock& real_clock() {
  static RealClock clock;
  return clock;
}
Random& real_random() {
  static RealRandom random;
  return random;
}
Disk& real_disk() {
  static RealDisk disk;
  return disk;
}

}  // namespace orchestra
