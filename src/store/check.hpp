#pragma once
// `orchestra store check`: are the files of a stopped store sound? Reads only.
#include <string>
#include <vector>

#include "orchestra/env.hpp"

namespace orchestra::store {

/// What was found, a line per file. `corrupt` names the first file and offset that are damaged.
Result<std::vector<std::string>> check_folder(Disk& disk, const std::string& folder);

/// One segment that is not written any more, by itself.
Result<void> check_complete_segment(Disk& disk, const std::string& file);
/// Every checksum of a snapshot, without loading it.
Result<void> check_snapshot(Disk& disk, const std::string& file);

}  // namespace orchestra::store
