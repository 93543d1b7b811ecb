#pragma once
// Files of one container attempt: the live one, and those that the shim renamed LIVE.YYYYMMDD-hhmmss
// (and .001 on in one second). All but the newest of these are packed by the node agent and then end in
// ".gz".
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "orchestra/result.hpp"

namespace orchestra::logs {

inline constexpr std::size_t kPackBytesMax = 64 << 20;  ///< longer files stay plain

/// In reading order: rotated ones, then LIVE.
std::vector<std::string> log_files(const std::string& live);
/// For reading from its beginning; a packed file as what is in it, in memory. A name that was packed since it
/// was listed is found. `not_found`, `corrupt`.
Result<Fd> open_log_file(const std::string& path);
/// Packs the rotated files of `live` but the newest, which a reader may be in, and those of the newest one's
/// second: who has one open reads on, and at no moment a file is there twice or not at all. The number
/// packed. Blocks.
Result<int> pack_rotated(const std::string& live);
/// The same for all containers of a pod: FOLDER/CONTAINER/ATTEMPT.log.
Result<int> pack_pod(const std::string& folder);

}  // namespace orchestra::logs
