#include "logs/log_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "orchestra/env.hpp"

namespace orchestra::logs {
namespace {

constexpr std::size_t kReadBytes = 64 << 10;
constexpr const char* kPacked = ".gz";
constexpr std::size_t kStamp = 16;                // ".YYYYMMDD-hhmmss"; later ones of one second go on ".001"
constexpr const char* kUnfinished = ".packing-";  // before the name, so that it is no rotated file

struct GzipFile {
  explicit GzipFile(int fd, const char* mode) : file(gzdopen(fcntl(fd, F_DUPFD_CLOEXEC, 0), mode)) {}
  ~GzipFile() {
    if (file != nullptr) gzclose(file);
  }
  bool close() { return gzclose(std::exchange(file, nullptr)) == Z_OK; }
  gzFile file;
};

// What is in a file tells, not its name: between two renames a packed one has a plain name.
bool is_packed(int fd) {
  unsigned char head[2];
  return pread(fd, head, 2, 0) == 2 && head[0] == 0x1f && head[1] == 0x8b;
}

Result<Fd> unpacked(const Fd& packed, const std::string& path) {
  Fd memory(memfd_create("orchestra-log", MFD_CLOEXEC));
  if (!memory) return system_error("logs", "memfd_create", path, errno);
  GzipFile source(packed.get(), "rb");
  if (source.file == nullptr) return Error(Error::io, "logs", "no memory to unpack " + path);
  std::string block(kReadBytes, '\0');
  std::size_t total = 0;
  while (true) {
    const int got = gzread(source.file, block.data(), static_cast<unsigned>(block.size()));
    if (got < 0) return Error(Error::corrupt, "logs", "the packed log " + path + " is damaged");
    if (got == 0) break;
    total += static_cast<std::size_t>(got);
    if (total > kPackBytesMax) {
      return Error(Error::too_large, "logs",
                   "the packed log " + path + " holds more than " + std::to_string(kPackBytesMax) + " bytes");
    }
    ORC_TRY(write_all(memory.get(), std::string_view(block).substr(0, static_cast<std::size_t>(got))));
  }
  if (!source.close()) return Error(Error::corrupt, "logs", "the packed log " + path + " ends early");
  return memory;
}

std::vector<std::string> names_in(const std::string& folder) {
  auto names = real_disk().list(folder);
  return names ? std::move(*names) : std::vector<std::string>();
}

// The name without what packing adds: the age of a rotated file.
std::string_view age_of(std::string_view path) {
  if (path.ends_with(kPacked)) path.remove_suffix(3);
  return path;
}

Result<void> pack_into(const Fd& source, const Fd& target, const std::string& path) {
  GzipFile packed(target.get(), "wb6");
  if (packed.file == nullptr) return Error(Error::io, "logs", "no memory to pack " + path);
  std::string block(kReadBytes, '\0');
  ssize_t got;
  while ((got = read(source.get(), block.data(), block.size())) != 0) {
    if (got < 0) return system_error("logs", "read", path, errno);
    if (gzwrite(packed.file, block.data(), static_cast<unsigned>(got)) != got)
      return Error(Error::io, "logs", "cannot write the packed log " + path);
  }
  if (!packed.close()) return Error(Error::io, "logs", "cannot write the packed log " + path);
  if (fsync(target.get()) != 0) return system_error("logs", "fsync", path, errno);
  return {};
}

// Two renames: the first puts the packed bytes under the old name, the second names them as what they are.
Result<bool> pack(const std::string& path) {
  ORC_ASSIGN(const Fd source, open_file(path, O_RDONLY));
  struct stat info {};
  if (fstat(source.get(), &info) != 0) return system_error("logs", "fstat", path, errno);
  if (static_cast<std::size_t>(info.st_size) > kPackBytesMax) return false;
  if (!is_packed(source.get())) {
    const std::size_t slash = path.rfind('/');
    const std::string unfinished = path.substr(0, slash + 1) + kUnfinished + path.substr(slash + 1);
    ORC_ASSIGN(const Fd target, open_file(unfinished, O_WRONLY | O_CREAT | O_TRUNC, 0640));
    auto packed = pack_into(source, target, path);
    if (packed && rename(unfinished.c_str(), path.c_str()) != 0)
      packed = system_error("logs", "rename", unfinished, errno);
    if (!packed) {
      unlink(unfinished.c_str());
      return packed.error();
    }
  }
  if (rename(path.c_str(), (path + kPacked).c_str()) != 0) return system_error("logs", "rename", path, errno);
  return true;
}

}  // namespace

std::vector<std::string> log_files(const std::string& live) {
  const std::size_t slash = live.rfind('/');
  const std::string folder = live.substr(0, slash), name = live.substr(slash + 1);
  std::vector<std::string> out;
  for (const std::string& file : names_in(folder)) {
    if (file.size() > name.size() + 1 && file.starts_with(name + ".")) out.push_back(folder + "/" + file);
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return age_of(a) < age_of(b); });
  out.push_back(live);
  return out;
}

Result<Fd> open_log_file(const std::string& path) {
  auto fd = open_file(path, O_RDONLY);
  if (!fd && fd.error().is(Error::not_found) && !path.ends_with(kPacked))
    fd = open_file(path + kPacked, O_RDONLY);
  if (!fd || !is_packed(fd->get())) return fd;
  return unpacked(*fd, path);
}

Result<int> pack_rotated(const std::string& live) {
  std::vector<std::string> files = log_files(live);
  files.pop_back();  // LIVE
  if (files.empty()) return 0;
  const std::string newest = std::string(age_of(files.back())).substr(0, live.size() + kStamp);
  files.pop_back();
  int count = 0;
  for (const std::string& path : files) {
    // A name that becomes free in its own second would be taken again by a younger file.
    if (path.ends_with(kPacked) || path.starts_with(newest)) continue;
    auto packed = pack(path);
    // The shim may have dropped it meanwhile.
    if (!packed && !packed.error().is(Error::not_found)) return packed.error();
    if (packed && *packed) ++count;
  }
  return count;
}

Result<int> pack_pod(const std::string& folder) {
  int count = 0;
  for (const std::string& container : names_in(folder)) {
    for (const std::string& file : names_in(folder + "/" + container)) {
      if (!file.ends_with(".log")) continue;
      ORC_ASSIGN(const int packed, pack_rotated(folder + "/" + container + "/" + file));
      count += packed;
    }
  }
  return count;
}

}  // namespace orchestra::logs
