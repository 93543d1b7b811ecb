#pragma once
// A disk that forgets: everything a power failure may do to files, and does.
//
// Writes, truncations and allocations change what readers see at once, but are durable only after sync() of
// their file; creations, renames and removals only after sync_directory(). crash() decides by its seed what
// of the rest survives: any subset of the 512-byte sectors of unsynced writes (so writes are lost, torn and
// reordered), and a prefix of the unsynced operations on names. Besides: a crash before a chosen operation,
// failing syncs, a full disk, flipped bits.
// Every changing call counts as one operation, so a test can crash at each of them in turn.
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "orchestra/env.hpp"

namespace orchestra::sim {

class SimDisk final : public Disk {
 public:
  explicit SimDisk(std::uint64_t seed) : random_state_(seed) {}

  Result<std::unique_ptr<DiskFile>> open(const std::string& path, Open how) override;
  Result<void> make_directories(const std::string& path, unsigned mode) override;
  Result<std::vector<std::string>> list(const std::string& directory) override;
  Result<void> rename(const std::string& from, const std::string& to) override;
  Result<void> remove(const std::string& path) override;
  Result<void> sync_directory(const std::string& path) override;
  Result<std::uint64_t> free_bytes(const std::string& path) override;
  bool exists(const std::string& path) override;
  Result<std::shared_ptr<void>> lock(const std::string& path) override;

  /// Changing operations so far.
  std::uint64_t operations() const;
  /// The power fails when operation number `operation` (counted from now, 1 = the next) is under way: it may
  /// happen in part, and all after it fail with `io`.
  void crash_at(std::uint64_t operation);
  bool crashed() const;
  /// The power fails now; restart() brings it back.
  void power_off();
  /// The power fails now (if it has not) and comes back: what was not durable is lost or kept by chance,
  /// open files and locks are gone, faults are cleared.
  void restart();

  void fail_syncs(bool fail);
  /// allocate() past this many bytes in all answers no_space; 0 = no limit.
  void set_capacity(std::uint64_t bytes);
  void flip(const std::string& path, std::uint64_t offset, unsigned char mask);
  /// What the medium holds from here on, at an offset within the file: a write that went to the wrong place.
  void overwrite(const std::string& path, std::uint64_t offset, std::string_view bytes);
  std::string contents(const std::string& path) const;
  /// An empty disk takes its place; nothing may be open.
  void replace();
  std::uint64_t file_size(const std::string& path) const;
  std::vector<std::string> files() const;

 private:
  friend class SimFile;
  struct Change {  ///< of a file's bytes, not synced yet
    std::uint64_t offset = 0;
    std::string bytes;
    std::optional<std::uint64_t> resize;
  };
  struct File {
    std::string bytes;    ///< what readers see
    std::string durable;  ///< what the medium holds for certain
    std::vector<Change> unsynced;
  };
  using Names = std::map<std::string, std::shared_ptr<File>>;
  struct NameChange {
    std::string directory;
    Names after;  ///< entries of that directory after the operation
  };

  std::uint64_t random();
  /// Counts an operation; an error when the power is off. `cut` is set when it fails during this one.
  Result<void> begin(bool* cut);
  Names names_in(const std::string& directory) const;
  void note_names(const std::string& directory);
  static void apply(std::string& bytes, const Change& change);
  void settle(File& file);

  mutable std::mutex mutex_;
  std::uint64_t random_state_;
  std::set<std::string> directories_{"/"};
  Names names_;
  Names durable_names_;
  std::vector<NameChange> name_changes_;
  std::set<std::string> locks_;
  std::uint64_t operations_ = 0;
  std::uint64_t crash_at_ = 0;
  std::uint64_t generation_ = 1;
  bool off_ = false;
  bool fail_syncs_ = false;
  std::uint64_t capacity_ = 0;
};

}  // namespace orchestra::sim
