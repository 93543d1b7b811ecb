#pragma once
// What all API servers of one cluster must share - certificate authority, keys, tokens: DIR/pki - lies in the
// store under /orchestra/bootstrap/pki, sealed with a key that only who knows the cluster's token can make.
//
// Sealed: version, salt, nonce, AES-256-GCM of the files; the key is scrypt(token, salt) (RFC 7914). The
// first peer makes the token (DIR/token, 0600) and the files; the others are given the token and take the
// files.
#include <map>
#include <memory>
#include <string>

#include "orchestra/env.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra::cluster {

using SharedFiles = std::map<std::string, std::string>;  ///< name -> bytes

Result<std::string> seal(const SharedFiles& files, const std::string& token, Random& random);
/// `denied` when the token is not the one that sealed it.
Result<SharedFiles> unseal(std::string_view sealed, const std::string& token);

/// From `token_file`, else DIR/token; made there if `may_make`.
Result<std::string> load_token(const std::string& data_dir, const std::string& token_file, bool may_make,
                               Random& random);
/// Takes the shared files from the store into DIR/pki. False: the store has none yet.
Result<bool> take_shared_keys(StateStore& store, const std::string& data_dir, const std::string& token);
/// Puts those of DIR/pki into the store, if it has none. False: somebody else was first.
Result<bool> put_shared_keys(StateStore& store, const std::string& data_dir, const std::string& token,
                             Random& random);

}  // namespace orchestra::cluster
