// Bearer tokens: any bytes are refused without harm; a signed one with changed bytes never verifies.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "orchestra/service_account_token.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra;
  struct Desk {
    std::string key = TokenIssuer::make_key().value();
    std::shared_ptr<TokenIssuer> issuer = TokenIssuer::create(key, "i").value();
    TokenVerifier verifier{"i"};
    Desk() { (void)verifier.add_key(key); }
  };
  static Desk desk;
  const std::string token(reinterpret_cast<const char*>(data), size);
  (void)desk.verifier.is_ours(token);
  if (desk.verifier.verify(token, 1'800'000'000, {})) std::abort();
  return 0;
}
