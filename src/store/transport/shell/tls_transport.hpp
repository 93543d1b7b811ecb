#pragma once
// The Transport between peers, and to clients, under mutual TLS 1.3.
//
// Both sides show a certificate that the same authority has signed; the side that dials also demands that the
// certificate names the address it dialled (an IP among its subject alternative names). Frames are those of
// the plain transport (base/framed_connection.hpp), inside TLS.
#include <memory>

#include "orchestra/env.hpp"
#include "orchestra/raft_store.hpp"

namespace orchestra::store {

/// `invalid` names what is wrong with the certificates. `engine` must outlive it; its connections and
/// listeners may outlive it.
Result<std::shared_ptr<Transport>> make_tls_transport(Engine& engine, const StoreTls& tls);

}  // namespace orchestra::store
