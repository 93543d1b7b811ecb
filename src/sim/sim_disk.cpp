// The disk that forgets (sim_disk.hpp).
#include "sim/sim_disk.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace orchestra::sim {
namespace {

constexpr std::uint64_t kSector = 512;

Error power_error() { return {Error::io, "disk", "the simulated power has failed"}; }
Error absent(const std::string& path) { return {Error::not_found, "disk", path + " does not exist"}; }

std::string parent_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}
std::string without_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

}  // namespace

class SimFile final : public DiskFile {
 public:
  SimFile(SimDisk& disk, std::shared_ptr<SimDisk::File> file, std::uint64_t generation)
      : disk_(disk), file_(std::move(file)), generation_(generation) {}

  Result<std::size_t> read_at(std::uint64_t offset, void* bytes, std::size_t size) override {
    std::lock_guard lock(disk_.mutex_);
    if (gone()) return power_error();
    if (offset >= file_->bytes.size()) return std::size_t{0};
    const std::size_t got = std::min<std::size_t>(size, file_->bytes.size() - offset);
    std::copy_n(file_->bytes.data() + offset, got, static_cast<char*>(bytes));
    return got;
  }
  Result<void> write_at(std::uint64_t offset, std::string_view bytes) override {
    return change({offset, std::string(bytes), std::nullopt});
  }
  Result<void> truncate(std::uint64_t size) override { return change({0, {}, size}); }
  Result<void> allocate(std::uint64_t size) override {
    {
      std::lock_guard lock(disk_.mutex_);
      std::uint64_t used = size;
      for (const auto& [path, file] : disk_.names_) {
        if (file != file_) used += file->bytes.size();
      }
      if (disk_.capacity_ != 0 && used > disk_.capacity_) {
        return Error(Error::no_space, "disk", "the simulated disk is full");
      }
      if (file_->bytes.size() >= size) return {};
    }
    return truncate(size);
  }
  Result<void> sync() override {
    std::lock_guard lock(disk_.mutex_);
    if (gone()) return power_error();
    bool cut = false;
    ORC_TRY(disk_.begin(&cut));
    if (cut) return power_error();
    if (disk_.fail_syncs_) return Error(Error::io, "disk", "the simulated disk failed a sync");
    for (const auto& change : file_->unsynced) SimDisk::apply(file_->durable, change);
    file_->unsynced.clear();
    return {};
  }
  Result<std::uint64_t> size() override {
    std::lock_guard lock(disk_.mutex_);
    if (gone()) return power_error();
    return std::uint64_t{file_->bytes.size()};
  }

 private:
  bool gone() const { return disk_.off_ || generation_ != disk_.generation_; }
  Result<void> change(SimDisk::Change change) {
    std::lock_guard lock(disk_.mutex_);
    if (gone()) return power_error();
    bool cut = false;
    ORC_TRY(disk_.begin(&cut));
    SimDisk::apply(file_->bytes, change);
    file_->unsynced.push_back(std::move(change));
    return cut ? Result<void>(power_error()) : Result<void>();
  }

  SimDisk& disk_;
  const std::shared_ptr<SimDisk::File> file_;
  const std::uint64_t generation_;
};

std::uint64_t SimDisk::random() {
  random_state_ += 0x9E3779B97F4A7C15ull;
  std::uint64_t z = random_state_;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

Result<void> SimDisk::begin(bool* cut) {
  if (off_) return power_error();
  ++operations_;
  if (crash_at_ != 0 && operations_ >= crash_at_) {
    off_ = true;
    *cut = true;
  }
  return {};
}

void SimDisk::apply(std::string& bytes, const Change& change) {
  if (change.resize) {
    bytes.resize(*change.resize, '\0');
    return;
  }
  if (bytes.size() < change.offset + change.bytes.size())
    bytes.resize(change.offset + change.bytes.size(), '\0');
  std::copy(change.bytes.begin(), change.bytes.end(),
            bytes.begin() + static_cast<std::ptrdiff_t>(change.offset));
}

/// Some sectors of the unsynced writes reached the medium, others did not. One crash in four loses all of
/// them, one keeps all: the plain cases come up often enough.
void SimDisk::settle(File& file) {
  const std::uint64_t kind = random() % 4;
  for (const Change& change : file.unsynced) {
    if (kind == 0) break;
    if (change.resize) {
      if (kind == 1 || random() % 2 == 0) apply(file.durable, change);
      continue;
    }
    for (std::uint64_t at = 0; at < change.bytes.size();) {
      const std::uint64_t to_boundary = kSector - (change.offset + at) % kSector;
      const std::uint64_t size = std::min<std::uint64_t>(to_boundary, change.bytes.size() - at);
      if (kind == 1 || random() % 2 == 0) {
        apply(file.durable, {change.offset + at, change.bytes.substr(at, size), std::nullopt});
      }
      at += size;
    }
  }
  file.unsynced.clear();
  file.bytes = file.durable;
}

Result<std::unique_ptr<DiskFile>> SimDisk::open(const std::string& path, Open how) {
  std::lock_guard lock(mutex_);
  if (off_) return power_error();
  const auto found = names_.find(path);
  if (found != names_.end()) {
    if (how == Open::create_new) return Error(Error::already_exists, "disk", path + " exists");
    return std::unique_ptr<DiskFile>(std::make_unique<SimFile>(*this, found->second, generation_));
  }
  if (how == Open::existing) return absent(path);
  if (!directories_.contains(parent_of(path))) return absent(parent_of(path));
  bool cut = false;
  ORC_TRY(begin(&cut));
  auto file = std::make_shared<File>();
  names_[path] = file;
  note_names(parent_of(path));
  if (cut) return power_error();
  return std::unique_ptr<DiskFile>(std::make_unique<SimFile>(*this, std::move(file), generation_));
}

Result<void> SimDisk::make_directories(const std::string& given, unsigned) {
  std::lock_guard lock(mutex_);
  if (off_) return power_error();
  for (std::string path = without_slash(given); path != "/" && path != "."; path = parent_of(path)) {
    directories_.insert(path);
  }
  return {};
}

SimDisk::Names SimDisk::names_in(const std::string& directory) const {
  Names inside;
  for (const auto& [path, file] : names_) {
    if (parent_of(path) == directory) inside.emplace(path, file);
  }
  return inside;
}
void SimDisk::note_names(const std::string& directory) {
  name_changes_.push_back({directory, names_in(directory)});
}

Result<std::vector<std::string>> SimDisk::list(const std::string& given) {
  std::lock_guard lock(mutex_);
  if (off_) return power_error();
  const std::string directory = without_slash(given);
  if (!directories_.contains(directory)) return absent(directory);
  std::vector<std::string> found;
  for (const auto& [path, file] : names_in(directory)) found.push_back(path.substr(directory.size() + 1));
  return found;
}

Result<void> SimDisk::rename(const std::string& from, const std::string& to) {
  std::lock_guard lock(mutex_);
  if (off_) return power_error();
  const auto found = names_.find(from);
  if (found == names_.end()) return absent(from);
  ORC_ASSERT(parent_of(from) == parent_of(to));  // nothing of ours moves files between folders
  bool cut = false;
  ORC_TRY(begin(&cut));
  auto file = found->second;
  names_.erase(found);
  names_[to] = std::move(file);
  note_names(parent_of(to));
  return cut ? Result<void>(power_error()) : Result<void>();
}

Result<void> SimDisk::remove(const std::string& path) {
  std::lock_guard lock(mutex_);
  if (off_) return power_error();
  if (!names_.contains(path)) return absent(path);
  bool cut = false;
  ORC_TRY(begin(&cut));
  names_.erase(path);
  note_names(parent_of(path));
  return cut ? Result<void>(power_error()) : Result<void>();
}

Result<void> SimDisk::sync_directory(const std::string& given) {
  std::lock_guard lock(mutex_);
  bool cut = false;
  ORC_TRY(begin(&cut));
  if (cut) return power_error();
  const std::string directory = without_slash(given);
  std::erase_if(durable_names_, [&](const auto& entry) { return parent_of(entry.first) == directory; });
  durable_names_.merge(names_in(directory));
  std::erase_if(name_changes_, [&](const NameChange& change) { return change.directory == directory; });
  return {};
}

Result<std::uint64_t> SimDisk::free_bytes(const std::string&) {
  std::lock_guard lock(mutex_);
  if (capacity_ == 0) return std::uint64_t{1} << 40;
  std::uint64_t used = 0;
  for (const auto& [path, file] : names_) used += file->bytes.size();
  return used >= capacity_ ? 0 : capacity_ - used;
}

bool SimDisk::exists(const std::string& path) {
  std::lock_guard lock(mutex_);
  return names_.contains(path) || directories_.contains(without_slash(path));
}

Result<std::shared_ptr<void>> SimDisk::lock(const std::string& path) {
  std::lock_guard lock(mutex_);
  if (off_) return power_error();
  if (!locks_.insert(path).second) return Error(Error::busy, "disk", path + " is locked");
  return std::shared_ptr<void>(this, [path, generation = generation_](void* self) {
    auto& disk = *static_cast<SimDisk*>(self);
    std::lock_guard guard(disk.mutex_);
    if (disk.generation_ == generation) disk.locks_.erase(path);
  });
}

std::uint64_t SimDisk::operations() const {
  std::lock_guard lock(mutex_);
  return operations_;
}
void SimDisk::crash_at(std::uint64_t operation) {
  std::lock_guard lock(mutex_);
  crash_at_ = operations_ + operation;
}
bool SimDisk::crashed() const {
  std::lock_guard lock(mutex_);
  return off_;
}

void SimDisk::power_off() {
  std::lock_guard lock(mutex_);
  off_ = true;
}

void SimDisk::restart() {
  std::lock_guard lock(mutex_);
  const std::size_t kept = name_changes_.empty() ? 0 : random() % (name_changes_.size() + 1);
  for (std::size_t i = 0; i < kept; ++i) {
    const NameChange& change = name_changes_[i];
    std::erase_if(durable_names_,
                  [&](const auto& entry) { return parent_of(entry.first) == change.directory; });
    for (const auto& entry : change.after) durable_names_.insert(entry);
  }
  name_changes_.clear();
  names_ = durable_names_;
  for (auto& [path, file] : names_) settle(*file);
  locks_.clear();
  ++generation_;
  off_ = false;
  fail_syncs_ = false;
  crash_at_ = 0;
}

void SimDisk::fail_syncs(bool fail) {
  std::lock_guard lock(mutex_);
  fail_syncs_ = fail;
}
void SimDisk::set_capacity(std::uint64_t bytes) {
  std::lock_guard lock(mutex_);
  capacity_ = bytes;
}
void SimDisk::flip(const std::string& path, std::uint64_t offset, unsigned char mask) {
  std::lock_guard lock(mutex_);
  File& file = *names_.at(path);
  ORC_ASSERT(offset < file.bytes.size());
  file.bytes[offset] = static_cast<char>(static_cast<unsigned char>(file.bytes[offset]) ^ mask);
  file.durable = file.bytes;
}
void SimDisk::overwrite(const std::string& path, std::uint64_t offset, std::string_view bytes) {
  std::lock_guard lock(mutex_);
  File& file = *names_.at(path);
  ORC_ASSERT(offset + bytes.size() <= file.bytes.size());
  file.bytes.replace(offset, bytes.size(), bytes);
  file.durable = file.bytes;
}
std::string SimDisk::contents(const std::string& path) const {
  std::lock_guard lock(mutex_);
  return names_.at(path)->bytes;
}
void SimDisk::replace() {
  std::lock_guard lock(mutex_);
  ORC_ASSERT(locks_.empty());
  directories_ = {"/"};
  names_.clear();
  durable_names_.clear();
  name_changes_.clear();
}
std::uint64_t SimDisk::file_size(const std::string& path) const {
  std::lock_guard lock(mutex_);
  return names_.at(path)->bytes.size();
}
std::vector<std::string> SimDisk::files() const {
  std::lock_guard lock(mutex_);
  std::vector<std::string> all;
  for (const auto& [path, file] : names_) all.push_back(path);
  return all;
}

}  // namespace orchestra::sim
