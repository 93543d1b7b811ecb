#pragma once
// TLS between the peers of `orchestra up --peers`, from the cluster's token alone.
//
// The authority cannot come out of the store, as everything else that they share does: it is needed before
// the store can be reached. So its key is made of the token - scrypt (RFC 7914) with a salt of this purpose,
// which gives an Ed25519 key (RFC 8032) - and every peer makes the very same authority, byte by byte, and a
// certificate of its own at each start. Who has the token can make certificates at any time, so that a short
// life would protect nothing: they have none, and no clock can be wrong.
#include <string>
#include <vector>

#include "orchestra/env.hpp"
#include "orchestra/raft_store.hpp"

namespace orchestra::cluster {

/// `addresses`: the IPs that the others dial.
Result<StoreTls> make_peer_tls(const std::string& token, const std::vector<std::string>& addresses,
                               Random& random);

/// DIR/peers.crt: the authority with which this peer has reached the others before. `denied` when the token
/// makes another one.
Result<void> check_peer_authority(const std::string& data_dir, const StoreTls& tls);
Result<void> keep_peer_authority(const std::string& data_dir, const StoreTls& tls);

}  // namespace orchestra::cluster
