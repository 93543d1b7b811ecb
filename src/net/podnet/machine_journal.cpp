#include "net/podnet/machine_journal.hpp"

#include <fcntl.h>
#include <unistd.h>

#include "base/fd.hpp"
#include "base/json.hpp"

namespace orchestra::net {
namespace {
constexpr std::size_t kJournalBytesMax = 1 << 20;
constexpr std::size_t kSysctlBytesMax = 4096;
}  // namespace

Result<std::string> read_sysctl(const std::string& name) {
  ORC_ASSIGN(std::string text, read_file("/proc/sys/" + name, kSysctlBytesMax));
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

Result<void> write_sysctl(const std::string& name, const std::string& value) {
  auto now = read_sysctl(name);
  if (!now && now.error().is(Error::not_found)) return {};
  if (now && *now == value) return {};
  ORC_ASSIGN(Fd fd, open_file("/proc/sys/" + name, O_WRONLY));
  auto done = write_all(fd.get(), value);
  if (!done) return done.error().with_context("sysctl " + name + " = " + value);
  return done;
}

Result<MachineJournal> MachineJournal::open(const std::string& data_dir) {
  ORC_TRY(make_directories(data_dir, 0700));
  MachineJournal journal(data_dir + "/network.json");
  auto text = read_file(journal.path_, kJournalBytesMax);
  if (!text && text.error().is(Error::not_found)) return journal;
  if (!text) return text.error();
  auto root = parse_json(*text);
  if (!root) return root.error().with_context(journal.path_);
  journal.state_ = {string_at(*root, "/instance"),     string_at(*root, "/podCIDR"),
                    string_at(*root, "/clusterCIDR"),  string_at(*root, "/serviceCIDR"),
                    string_at(*root, "/clusterCIDR6"), string_at(*root, "/serviceCIDR6"),
                    string_at(*root, "/mode"),         string_at(*root, "/families")};
  if (const auto* items = array_at(*root, "/sysctls")) {
    for (const auto& item : *items) {
      journal.changes_.push_back(
          {string_at(item, "/name"), string_at(item, "/old"), string_at(item, "/new")});
    }
  }
  return journal;
}

Result<void> MachineJournal::save() const {
  json::array sysctls;
  for (const auto& change : changes_) {
    sysctls.push_back(
        json::object{{"name", change.what}, {"old", change.old_value}, {"new", change.new_value}});
  }
  const json::value root = json::object{{"instance", state_.instance},
                                        {"podCIDR", state_.pod_cidr},
                                        {"clusterCIDR", state_.cluster_cidr},
                                        {"serviceCIDR", state_.service_cidr},
                                        {"clusterCIDR6", state_.cluster_cidr6},
                                        {"serviceCIDR6", state_.service_cidr6},
                                        {"mode", state_.mode},
                                        {"families", state_.families},
                                        {"sysctls", std::move(sysctls)}};
  return replace_file(path_, to_json(root) + "\n", 0600, true);
}

Result<void> MachineJournal::record(const MachineState& state) {
  if (state_ == state) return {};
  state_ = state;
  return save();
}

Result<void> MachineJournal::set_sysctl(const std::string& name, const std::string& value) {
  ORC_ASSIGN(const std::string old_value, read_sysctl(name));
  if (old_value == value) return {};
  bool known = false;
  for (auto& change : changes_) {
    if (change.what != name) continue;
    known = true;
    change.new_value = value;
  }
  if (!known) changes_.push_back({name, old_value, value});
  ORC_TRY(save());
  return write_sysctl(name, value);
}

Result<void> MachineJournal::restore_sysctls() {
  Result<void> first;
  for (auto change = changes_.rbegin(); change != changes_.rend(); ++change) {
    const auto now = read_sysctl(change->what);
    if (!now || *now != change->new_value) continue;
    auto done = write_sysctl(change->what, change->old_value);
    if (!done && first) first = done;
  }
  return first;
}

Result<void> MachineJournal::remove() {
  state_ = {};
  changes_.clear();
  if (::unlink(path_.c_str()) != 0 && errno != ENOENT) return system_error("podnet", "unlink", path_, errno);
  return {};
}

}  // namespace orchestra::net
