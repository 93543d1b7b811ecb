#pragma once
// ADD from elsewhere: a URL or a git repository, fetched into a folder that COPY can take files from.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/http_client.hpp"
#include "orchestra/engine.hpp"

namespace orchestra::image {

enum class SourceKind : std::uint8_t { local, url, git };
/// git: "git@..", "git://..", ".git" at the end of the address (before #REF[:FOLDER]).
SourceKind kind_of_source(std::string_view source);

struct RemoteSource {
  std::string folder;  ///< where it lies now
  std::string name;    ///< of the file; empty: the folder's content is meant
};
/// `checksum` is "sha256:HEX" or empty. The folder `into` is made.
Result<RemoteSource> fetch_url(HttpClient& http, const std::string& url, const std::string& checksum,
                               const std::string& into);
Result<RemoteSource> fetch_git(Spawner& spawner, const std::string& address, bool keep_git,
                               const std::string& into);

}  // namespace orchestra::image
