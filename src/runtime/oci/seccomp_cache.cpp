#include "runtime/oci/seccomp_cache.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.hpp"
#include "runtime/linux/seccomp.hpp"

namespace orchestra::runtime {
namespace {
constexpr std::size_t kEntryBytesMax = 1 << 20;

/// FNV-1a names the file only; the whole profile is compared before the filter is used.
std::string file_name(const std::string& key) {
  std::uint64_t hash = 14695981039346656037ull;
  for (const char c : key) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  constexpr char digits[] = "0123456789abcdef";
  std::string name;
  for (int shift = 60; shift >= 0; shift -= 4) name += digits[hash >> shift & 15];
  return name;
}

bool is_ours(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && info.st_uid == geteuid() &&
         (info.st_mode & 077) == 0;
}
}  // namespace

Result<std::string> cached_seccomp(const ContainerSpec::Seccomp& profile, const std::string& directory) {
  const std::string key = seccomp_key(profile);
  const std::string head = std::to_string(key.size()) + "\n" + key;
  const std::string path = directory + "/" + file_name(key);
  if (is_ours(path)) {
    const auto entry = read_file(path, kEntryBytesMax);
    if (entry && entry->starts_with(head) && entry->size() > head.size() &&
        (entry->size() - head.size()) % 8 == 0)
      return entry->substr(head.size());
  }
  ORC_ASSIGN(const std::string filter, compile_seccomp(profile));
  // A cache: that it cannot be written costs time, nothing else.
  if (make_directories(directory, 0700)) (void)replace_file(path, head + filter, 0600, false);
  return filter;
}

}  // namespace orchestra::runtime
