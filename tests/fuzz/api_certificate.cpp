// Certificate requests and chains from outside: any bytes are read or refused, and what is read judges.
#include <cstdint>
#include <string_view>

#include "api/x509/request.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra::api;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto request = read_certificate_request(text)) {
    for (const char* signer : {kSignerClient, kSignerKubeletClient, kSignerKubeletServing})
      (void)signer_objection(signer, *request, {"client auth", "digital signature"});
  }
  (void)check_certificate_chain(text);
  return 0;
}
