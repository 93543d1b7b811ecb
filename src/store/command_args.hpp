#pragma once
// The words of `orchestra store`: flags, numbers, durations, lists, folders.
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "orchestra/etcd_store.hpp"
#include "orchestra/raft_store.hpp"

namespace orchestra::store::command {

/// Flags with a value, flags without, and what is left.
struct Arguments {
  std::vector<std::string> words;
  std::map<std::string, std::string> values;
  bool has(const std::string& name) const { return values.contains(name); }
};

Error usage_error(const std::string& what);
Result<Arguments> parse(const std::vector<std::string>& args);
Result<std::optional<std::int64_t>> number_of(const Arguments& args, const std::string& name);
/// "90", "90s", "5m", "2h", in seconds.
Result<std::int64_t> seconds_of(const std::string& text);
bool holds_log(Disk& disk, const std::string& folder);
/// A data folder of `orchestra up` keeps its store in DIR/store; a bare store lies in DIR itself.
std::string store_folder(const std::string& data);
std::vector<std::string> split_list(const std::string& text);
/// Of an etcd.
bool is_url(const std::string& text);
/// An etcd by the words of the command line; of its keys only those under `prefix` are followed.
Result<EtcdStoreOptions> etcd_options(const Arguments& args, const std::string& urls, std::string prefix);
/// The files that --cacert, --cert and --key name (or --peer-cacert, ..).
StoreTls tls_of(const Arguments& args, const std::string& prefix);

}  // namespace orchestra::store::command
