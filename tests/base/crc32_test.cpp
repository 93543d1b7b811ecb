// The CRC-32 of frames against zlib's: every length around the places where it goes on differently.
#include <zlib.h>

#include <random>
#include <string>

#include "base/crc32.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;

TEST_CASE("the checksum of frames is zlib's CRC-32, for every length and every place in memory") {
  std::mt19937_64 random(20261201);
  std::string bytes(70'000, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  const auto same = [&](std::size_t at, std::size_t size) {
    const std::string_view piece = std::string_view(bytes).substr(at, size);
    const auto wanted =
        static_cast<std::uint32_t>(::crc32_z(0, reinterpret_cast<const Bytef*>(piece.data()), piece.size()));
    CHECK_MESSAGE(crc32_of(piece) == wanted, size, " bytes at ", at);
  };
  for (std::size_t size = 0; size < 400; ++size) {
    for (std::size_t at = 0; at < 17; ++at) same(at, size);
  }
  for (int i = 0; i < 200; ++i) same(random() % 1000, random() % 69'000);
  CHECK(crc32_of("123456789") == 0xCBF43926u);  // the check value of the catalogue
}
