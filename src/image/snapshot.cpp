// Writable roots: an overlay over unpacked layers, or a plain copy of them.
//
// The overlay is only described here (MountPlan); the runtime mounts it in the container's own mount
// namespace, with layers/ as working directory so that the option string stays below one page. The copy
// serves level `process` (chroot needs a real directory), rootless, and hosts where overlayfs cannot be
// mounted (overlay on overlay). A root is made under a temporary name and renamed when it is complete.
#include <dirent.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/json.hpp"
#include "image/file_copy.hpp"
#include "image/store.hpp"

namespace orchestra::image {
namespace {

constexpr std::size_t kMetaBytesMax = 256 << 10;
constexpr std::size_t kOwnerBytesMax = 200;
constexpr std::size_t kOverlayLowersMax = 500;
constexpr std::size_t kOverlayOptionBytesMax = 3500;  // of the one page that mount(2) takes
constexpr const char* kTemporaryPrefix = "tmp-";

Result<void> check_owner(const std::string& owner) {
  const bool good = !owner.empty() && owner.size() <= kOwnerBytesMax && owner.front() != '.' &&
                    !owner.starts_with(kTemporaryPrefix) &&
                    std::all_of(owner.begin(), owner.end(), [](unsigned char c) {
                      return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.';
                    });
  if (good) return {};
  return Error(Error::invalid, "image", "\"" + owner + "\" cannot name a root; use letters, digits, - _ .");
}

std::string describe(const SnapshotRecord& record) {
  json::object meta;
  meta["image"] = record.image;
  meta["overlay"] = record.overlay;
  json::array layers;
  for (const std::uint64_t number : record.layers) layers.push_back(number);
  meta["layers"] = std::move(layers);
  return to_json(meta);
}

std::string text_of(int error_number, const char* call) {
  return system_error("image", call, "overlay", error_number).message();
}

/// The root directory of an overlay looks like its upper directory: give it the image's attributes.
Result<void> dress_upper(const std::string& upper, const LayerStack& layers) {
  ORC_TRY(make_directories(upper, 0755));
  ORC_ASSIGN(const Fd target, open_file(upper, O_RDONLY | O_DIRECTORY));
  if (layers.empty())
    return ::fchmod(target.get(), 0755) == 0 ? Result<void>() : system_error("image", "fchmod", upper, errno);
  struct stat status {};
  if (::fstat(layers.layer(0), &status) != 0) return system_error("image", "fstat", upper, errno);
  copy_xattrs(layers.layer(0), target.get());
  return set_attributes(target.get(), status);
}

}  // namespace

std::string probe_overlay(const std::string& directory) {
  const std::string base = directory + "/overlay-probe";
  for (const char* name : {"/lower", "/upper", "/work"}) {
    if (auto made = make_directories(base + name, 0700); !made) return made.error().message();
  }
  std::string problem;
  if (auto written = write_file(base + "/lower/old", "1", 0600); !written)
    problem = written.error().message();
  const Fd lower(::open((base + "/lower").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  const Fd upper(::open((base + "/upper").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  const Fd work(::open((base + "/work").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  // Options given to fsconfig end at 256 bytes: short paths through our own descriptors.
  const auto path = [](const Fd& fd) { return "/proc/self/fd/" + std::to_string(fd.get()); };
  Fd context(static_cast<int>(::syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC)));
  if (!context) problem = text_of(errno, "fsopen");
  const std::pair<const char*, std::string> settings[] = {
      {"lowerdir", path(lower)}, {"upperdir", path(upper)}, {"workdir", path(work)}};
  for (const auto& [key, value] : settings) {
    if (!problem.empty()) break;
    if (::syscall(SYS_fsconfig, context.get(), FSCONFIG_SET_STRING, key, value.c_str(), 0) != 0) {
      problem = text_of(errno, "fsconfig");
    }
  }
  if (problem.empty() &&
      ::syscall(SYS_fsconfig, context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    problem = text_of(errno, "fsconfig create");
  }
  Fd mounted;
  if (problem.empty()) {
    mounted = Fd(static_cast<int>(::syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC, 0)));
    if (!mounted) problem = text_of(errno, "fsmount");
  }
  // What containers need: read below, write above, hide.
  if (problem.empty()) {
    Fd fresh(::openat(mounted.get(), "new", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    if (!fresh) problem = text_of(errno, "create a file");
  }
  if (problem.empty() && ::unlinkat(mounted.get(), "old", 0) != 0) problem = text_of(errno, "remove a file");
  mounted.reset();
  context.reset();
  (void)remove_tree(base);
  return problem;
}

std::string Store::snapshot_path(const std::string& owner) const {
  return directory() + "/snapshots/" + owner;
}

Result<SnapshotRecord> Store::find_snapshot(const std::string& owner) const {
  ORC_TRY(check_owner(owner));
  auto text = read_file(snapshot_path(owner) + "/meta.json", kMetaBytesMax);
  if (!text) {
    if (!text.error().is(Error::not_found)) return text.error();
    return Error(Error::not_found, "image", "no root \"" + owner + "\" in the image store");
  }
  ORC_ASSIGN(const json::value meta, parse_json(*text));
  SnapshotRecord out;
  out.owner = owner;
  out.image = string_at(meta, "/image");
  out.overlay = bool_at(meta, "/overlay");
  if (const json::array* layers = array_at(meta, "/layers")) {
    for (const json::value& number : *layers) {
      if (number.is_int64()) out.layers.push_back(static_cast<std::uint64_t>(number.as_int64()));
    }
  }
  return out;
}

Result<std::vector<SnapshotRecord>> Store::snapshots() const {
  const std::string root = directory() + "/snapshots";
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(root.c_str()), ::closedir);
  if (!stream) return system_error("image", "opendir", root, errno);
  std::vector<SnapshotRecord> out;
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string name = entry->d_name;
    if (!check_owner(name)) continue;
    if (auto record = find_snapshot(name)) out.push_back(std::move(*record));
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.owner < b.owner; });
  return out;
}

MountPlan Store::plan_of(const std::string& path, const std::vector<std::uint64_t>& layers,
                         bool overlay) const {
  MountPlan plan;
  if (!overlay) {
    plan.directory = path + "/root";
    return plan;
  }
  plan.layers_directory = directory() + "/layers";
  for (const std::uint64_t number : layers) plan.overlay_lower.push_back(std::to_string(number) + "/fs");
  plan.overlay_upper = path + "/upper";
  plan.overlay_work = path + "/work";
  return plan;
}

bool Store::can_overlay(const std::vector<LayerRecord>& layers, Isolation isolation) const {
  std::size_t option_bytes = 0;
  for (const LayerRecord& layer : layers) option_bytes += std::to_string(layer.number).size() + 4;
  const bool fits = layers.size() <= kOverlayLowersMax && option_bytes <= kOverlayOptionBytesMax;
  return isolation == Isolation::full && overlay_problem_.empty() && !layers.empty() && fits;
}

Result<void> Store::fill_root(const std::string& path, const std::vector<std::uint64_t>& layers,
                              bool overlay) {
  ORC_TRY(remove_tree(path));
  ORC_TRY(make_directories(path, 0700));
  ORC_ASSIGN(const LayerStack stack, open_layers(layers));
  if (overlay) {
    ORC_TRY(dress_upper(path + "/upper", stack));
    return make_directories(path + "/work", 0700);
  }
  ORC_TRY(make_directories(path + "/root", 0755));
  ORC_ASSIGN(const Fd root, open_file(path + "/root", O_RDONLY | O_DIRECTORY));
  ORC_ASSIGN(const CopyReport copied, copy_stack(stack, root.get()));
  engine_.log(
      LogLevel::debug, "image", "root copied",
      {{"root", path}, {"files", std::to_string(copied.files)}, {"bytes", std::to_string(copied.bytes)}});
  return {};
}

Result<MountPlan> Store::make_root(const std::string& path, const std::vector<LayerRecord>& layers,
                                   Isolation isolation) {
  std::vector<std::uint64_t> numbers;
  for (const LayerRecord& layer : layers) numbers.push_back(layer.number);
  const bool overlay = can_overlay(layers, isolation);
  ORC_TRY(fill_root(path, numbers, overlay));
  return plan_of(path, numbers, overlay);
}

Result<MountPlan> Store::prepare_root(const std::string& image_name, const std::string& owner,
                                      Isolation isolation) {
  ORC_TRY(check_owner(owner));
  const auto one_at_a_time = key_mutex("snapshot:" + owner);
  const std::lock_guard flight(*one_at_a_time);
  ORC_ASSIGN(const auto name, find_image(image_name));
  const std::string path = snapshot_path(owner);
  if (auto existing = find_snapshot(owner)) {
    if (name && existing->image != name->manifest) {
      return Error(Error::conflict, "image",
                   "root \"" + owner + "\" exists with another image, " + existing->image);
    }
    return plan_of(path, existing->layers, existing->overlay);
  }
  if (!name) return Error(Error::not_found, "image", "no image \"" + image_name + "\" in the store");
  Lease lease = leases_.begin();
  lease.hold(name->manifest);
  blobs_.touch(name->manifest);
  ORC_ASSIGN(const auto image, load(name->manifest));
  ORC_ASSIGN(const auto layers, ensure_layers(*image, lease));

  SnapshotRecord record;
  record.owner = owner;
  record.image = name->manifest;
  for (const LayerRecord& layer : layers) record.layers.push_back(layer.number);
  record.overlay = can_overlay(layers, isolation);
  const std::string temporary = directory() + "/snapshots/" + kTemporaryPrefix + owner;
  const auto build = [&]() -> Result<void> {
    ORC_TRY(fill_root(temporary, record.layers, record.overlay));
    ORC_TRY(write_file(temporary + "/meta.json", describe(record), 0600));
    if (::rename(temporary.c_str(), path.c_str()) != 0) return system_error("image", "rename", path, errno);
    return {};
  };
  if (auto built = build(); !built) {
    (void)remove_tree(temporary);
    return built.error().with_context("root \"" + owner + "\" of " + image_name);
  }
  return plan_of(path, record.layers, record.overlay);
}

Result<void> Store::release_root(const std::string& owner) {
  ORC_TRY(check_owner(owner));
  const auto one_at_a_time = key_mutex("snapshot:" + owner);
  const std::lock_guard flight(*one_at_a_time);
  // Out of the way first: a crash in the middle leaves a tmp- folder, which open() removes.
  const std::string dying = directory() + "/snapshots/" + kTemporaryPrefix + owner;
  ORC_TRY(remove_tree(dying));
  if (::rename(snapshot_path(owner).c_str(), dying.c_str()) != 0) {
    if (errno == ENOENT) return {};
    return system_error("image", "rename", snapshot_path(owner), errno);
  }
  // Without meta.json what is left is garbage even where the removal fails.
  ::unlink((dying + "/meta.json").c_str());
  return remove_tree(dying);
}

Result<LayerStack> Store::open_snapshot(const SnapshotRecord& record) const {
  const std::string path = snapshot_path(record.owner);
  if (!record.overlay) return LayerStack::open({path + "/root"});
  std::vector<std::string> paths{path + "/upper"};
  for (const std::uint64_t number : record.layers) paths.push_back(layer_path(number));
  return LayerStack::open(paths);
}

}  // namespace orchestra::image
