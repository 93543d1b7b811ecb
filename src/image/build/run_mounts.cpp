// Mounts of one RUN step, see run_mounts.hpp.
#include "image/build/run_mounts.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "base/fd.hpp"
#include "image/build/copy_plan.hpp"
#include "image/digest.hpp"
#include "image/store.hpp"

namespace orchestra::image {
namespace {

constexpr std::size_t kSecretBytesMax = 500 << 10;  // as BuildKit
constexpr const char* kTypes[] = {"bind", "cache", "tmpfs", "secret", "ssh"};

Error bad(const std::string& why) { return Error(Error::invalid, "image", "--mount: " + why); }

Result<std::uint32_t> number(const std::string& key, const std::string& text, int base) {
  std::uint32_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, base);
  if (error != std::errc() || end != text.data() + text.size())
    return bad(key + "=" + text + " is no number");
  return out;
}

Result<bool> truth(const std::string& key, const std::string& text) {
  if (text.empty() || text == "true" || text == "1") return true;
  if (text == "false" || text == "0") return false;
  return bad(key + "=" + text + " is neither true nor false");
}

Result<void> set(MountSpec& spec, const std::string& key, const std::string& value, bool& mode_given) {
  if (key == "type") {
    spec.type = value;
  } else if (key == "id") {
    spec.id = value;
  } else if (key == "target" || key == "dst" || key == "destination") {
    spec.target = value;
  } else if (key == "source" || key == "src") {
    spec.source = value;
  } else if (key == "from") {
    spec.from = value;
  } else if (key == "env") {
    spec.environment = value;
  } else if (key == "sharing") {
    if (value != "shared" && value != "private" && value != "locked")
      return bad("sharing=" + value + " is not shared, private or locked");
    spec.sharing = value;
  } else if (key == "readonly" || key == "ro") {
    ORC_ASSIGN(spec.read_only, truth(key, value));
  } else if (key == "rw" || key == "readwrite") {
    ORC_ASSIGN(const bool writable, truth(key, value));
    spec.read_only = !writable;
  } else if (key == "required") {
    ORC_ASSIGN(spec.required, truth(key, value));
  } else if (key == "mode") {
    ORC_ASSIGN(spec.mode, number(key, value, 8));
    mode_given = true;
  } else if (key == "uid") {
    ORC_ASSIGN(spec.uid, number(key, value, 10));
  } else if (key == "gid") {
    ORC_ASSIGN(spec.gid, number(key, value, 10));
  } else if (key != "size") {
    return bad("\"" + key + "\" is not known");
  }
  return {};
}

}  // namespace

Result<MountSpec> parse_mount(std::string_view text) {
  MountSpec spec;
  bool mode_given = false, access_given = false;
  for (std::size_t start = 0; start <= text.size();) {
    const std::size_t comma = std::min(text.find(',', start), text.size());
    const std::string part(text.substr(start, comma - start));
    start = comma + 1;
    if (part.empty()) continue;
    const std::size_t equals = part.find('=');
    const std::string key = part.substr(0, equals);
    access_given = access_given || key == "rw" || key == "readwrite" || key == "ro" || key == "readonly";
    ORC_TRY(set(spec, key, equals == std::string::npos ? "" : part.substr(equals + 1), mode_given));
  }
  if (std::find(std::begin(kTypes), std::end(kTypes), spec.type) == std::end(kTypes))
    return bad("type=" + spec.type + " is not bind, cache, tmpfs, secret or ssh");
  if (spec.type == "bind" && !access_given) spec.read_only = true;
  if (!mode_given) spec.mode = spec.type == "cache" ? 0755 : spec.type == "secret" ? 0400 : 0600;
  if (spec.type == "secret") {
    if (spec.id.empty()) spec.id = spec.source.empty() ? std::string(name_of(spec.target)) : spec.source;
    if (spec.id.empty()) return bad("a secret needs its id");
    if (spec.target.empty() && spec.environment.empty()) spec.target = "/run/secrets/" + spec.id;
  } else if (spec.type == "ssh") {
    if (spec.target.empty()) spec.target = "/run/buildkit/ssh_agent.0";
  } else if (spec.target.empty()) {
    return bad("type=" + spec.type + " needs target=");
  }
  if (spec.type == "cache" && spec.id.empty()) spec.id = spec.target;
  return spec;
}

RunMounts::~RunMounts() {
  locks_.clear();
  (void)remove_tree(folder_);
}

std::string RunMounts::fresh_path() { return folder_ + "/" + std::to_string(++count_); }

Result<void> RunMounts::add(const MountSpec& spec, const FindFolder& find, StepRequest& request) {
  ORC_TRY(make_directories(folder_, 0700));
  if (spec.type == "cache") return add_cache(spec, request);
  if (spec.type == "secret") return add_secret(spec, request);
  if (spec.type == "bind") return add_bind(spec, find, request);
  if (spec.type == "tmpfs") {
    // A folder of this step alone, gone when it ends.
    const std::string path = fresh_path();
    ORC_TRY(make_directories(path, 01777));
    if (::chmod(path.c_str(), 01777) != 0) return system_error("image", "chmod", path, errno);
    request.mounts.push_back({path, spec.target, spec.read_only});
    return {};
  }
  if (options_.ssh_socket.empty()) {
    if (!spec.required) return {};
    return Error(Error::not_found, "image", "the step needs an ssh agent; build with --ssh SOCKET");
  }
  request.mounts.push_back({options_.ssh_socket, spec.target, false});
  request.env.push_back("SSH_AUTH_SOCK=" + spec.target);
  return {};
}

Result<void> RunMounts::add_script(const std::string& content, const std::string& target,
                                   StepRequest& request) {
  ORC_TRY(make_directories(folder_, 0700));
  const std::string path = fresh_path();
  ORC_TRY(write_file(path, content, 0755));
  if (::chmod(path.c_str(), 0755) != 0) return system_error("image", "chmod", path, errno);
  request.mounts.push_back({path, target, true});
  return {};
}

Result<void> RunMounts::add_cache(const MountSpec& spec, StepRequest& request) {
  const std::string key(digest_hex(sha256_digest(spec.id)));
  std::string path = store_.directory() + "/build-mounts/" + key.substr(0, 32);
  if (spec.sharing != "shared") {
    auto mutex = store_.key_mutex("build-mount:" + key);
    std::unique_lock lock(*mutex, std::defer_lock);
    if (spec.sharing == "locked") {
      lock.lock();
    } else if (!lock.try_lock()) {
      path = fresh_path();  // private, and somebody has it: an empty one of our own
    }
    if (lock.owns_lock()) {
      mutexes_.push_back(mutex);
      locks_.push_back(std::move(lock));
    }
  }
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    ORC_TRY(make_directories(store_.directory() + "/build-mounts", 0700));
    ORC_TRY(make_directories(path, 0700));
    if (::geteuid() == 0 && ::chown(path.c_str(), spec.uid, spec.gid) != 0)
      return system_error("image", "chown", path, errno);
    if (::chmod(path.c_str(), spec.mode & 07777) != 0) return system_error("image", "chmod", path, errno);
  }
  request.mounts.push_back({path, spec.target, spec.read_only});
  return {};
}

Result<void> RunMounts::add_secret(const MountSpec& spec, StepRequest& request) {
  const auto secret = std::find_if(options_.secrets.begin(), options_.secrets.end(),
                                   [&](const BuildSecret& one) { return one.id == spec.id; });
  if (secret == options_.secrets.end()) {
    if (!spec.required) return {};
    return Error(
        Error::not_found, "image",
        "the secret \"" + spec.id + "\" was not given; build with --secret id=" + spec.id + ",src=FILE");
  }
  ORC_ASSIGN(const std::string bytes, read_file(secret->path, kSecretBytesMax));
  if (!spec.environment.empty()) request.env.push_back(spec.environment + "=" + bytes);
  if (spec.target.empty()) return {};
  const std::string path = fresh_path();
  ORC_TRY(write_file(path, bytes, 0400));
  if (::geteuid() == 0 && ::chown(path.c_str(), spec.uid, spec.gid) != 0)
    return system_error("image", "chown", path, errno);
  if (::chmod(path.c_str(), spec.mode & 07777) != 0) return system_error("image", "chmod", path, errno);
  request.mounts.push_back({path, spec.target, true});
  return {};
}

Result<void> RunMounts::add_bind(const MountSpec& spec, const FindFolder& find, StepRequest& request) {
  ORC_ASSIGN(const std::string root, find(spec.from));
  ORC_ASSIGN(const auto parts, split_path(spec.source.empty() ? "." : spec.source));
  const std::string source = parts.empty() ? root : root + "/" + join_path(parts);
  // What the kernel will mount must lie inside: no link on the way.
  ORC_ASSIGN(const Fd folder, open_file(root, O_RDONLY | O_DIRECTORY));
  if (auto inside = open_beneath(folder.get(), join_path(parts), O_PATH | O_NOFOLLOW); !inside)
    return inside.error().with_context("--mount source " + spec.source);
  request.mounts.push_back({source, spec.target, spec.read_only});
  return {};
}

}  // namespace orchestra::image
