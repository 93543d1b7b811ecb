#pragma once
// Do a certificate and a private key belong together? What Go's crypto/tls asks before it serves with them.
#include <string>
#include <string_view>

#include "orchestra/error.hpp"

namespace orchestra::api {

/// Both as PEM. Empty: they do; else why not, in the words of tls.X509KeyPair where those are its own, in
/// OpenSSL's about certificates that cannot be read.
ORC_API std::string key_pair_mismatch(std::string_view certificate, std::string_view key);

}  // namespace orchestra::api
