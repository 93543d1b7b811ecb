#pragma once
// SHA-256 of a stream, by OpenSSL.
#include <memory>
#include <string>
#include <string_view>

namespace orchestra::store {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void add(std::string_view bytes);
  /// The 32 bytes; the object is done after that.
  std::string finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

std::string to_hex(std::string_view bytes);

}  // namespace orchestra::store
