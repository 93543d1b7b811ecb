#pragma once
// Continue tokens of paged lists: where the next page begins and at which revision it is read.
//
// Opaque to clients and integrity-checked: base64url of a JSON text and the first half of its
// HMAC-SHA256 under a key of this server (kept in the data folder, so that a restart honours tokens).
#include <optional>
#include <string>
#include <string_view>

#include "orchestra/result.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra::apiserver {

struct ContinueToken {
  Revision revision = 0;  ///< 0: read at the newest revision
  std::string last_key;   ///< the page begins right behind it
};

std::string seal_continue(const ContinueToken& token, std::string_view secret);
/// `invalid` for anything that seal_continue with this secret did not make.
Result<ContinueToken> open_continue(std::string_view text, std::string_view secret);

}  // namespace orchestra::apiserver
