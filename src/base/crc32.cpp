// Folding by carry-less multiplication, as in Intel's paper "Fast CRC Computation for Generic Polynomials
// Using PCLMULQDQ Instruction" (2009), whose constants for this polynomial these are.
#include "base/crc32.hpp"

#include <zlib.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace orchestra {
namespace {

std::uint32_t by_zlib(std::uint32_t crc, std::string_view bytes) {
  return static_cast<std::uint32_t>(
      ::crc32_z(crc, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

#if defined(__x86_64__)
constexpr std::size_t kLane = 16;
constexpr std::size_t kLanes = 4 * kLane;

__attribute__((target("pclmul,sse4.1"))) __m128i load(const char* at) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
}
/// `lane` moved on by as far as `by` says, and what lies there.
__attribute__((target("pclmul,sse4.1"))) __m128i fold(__m128i lane, __m128i by, __m128i next) {
  const __m128i low = _mm_clmulepi64_si128(lane, by, 0x00);
  const __m128i high = _mm_clmulepi64_si128(lane, by, 0x11);
  return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

/// At least kLanes bytes.
__attribute__((target("pclmul,sse4.1"))) std::uint32_t by_instruction(std::string_view bytes) {
  const __m128i by_four = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4);
  const __m128i by_one = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
  const __m128i to_64 = _mm_set_epi64x(0, 0x0163cd6124);
  const __m128i barrett = _mm_set_epi64x(0x01f7011641, 0x01db710641);
  const __m128i low_32 = _mm_setr_epi32(-1, 0, -1, 0);

  const char* at = bytes.data();
  std::size_t left = bytes.size();
  __m128i lanes[4];
  for (int i = 0; i < 4; ++i) lanes[i] = load(at + i * static_cast<int>(kLane));
  lanes[0] = _mm_xor_si128(lanes[0], _mm_cvtsi32_si128(-1));
  for (at += kLanes, left -= kLanes; left >= kLanes; at += kLanes, left -= kLanes) {
    for (int i = 0; i < 4; ++i) lanes[i] = fold(lanes[i], by_four, load(at + i * static_cast<int>(kLane)));
  }
  __m128i one = lanes[0];
  for (int i = 1; i < 4; ++i) one = fold(one, by_one, lanes[i]);
  for (; left >= kLane; at += kLane, left -= kLane) one = fold(one, by_one, load(at));

  one = _mm_xor_si128(_mm_srli_si128(one, 8), _mm_clmulepi64_si128(one, by_one, 0x10));
  one = _mm_xor_si128(_mm_srli_si128(one, 4), _mm_clmulepi64_si128(_mm_and_si128(one, low_32), to_64, 0x00));
  __m128i quotient = _mm_clmulepi64_si128(_mm_and_si128(one, low_32), barrett, 0x10);
  quotient = _mm_clmulepi64_si128(_mm_and_si128(quotient, low_32), barrett, 0x00);
  const auto state = static_cast<std::uint32_t>(_mm_extract_epi32(_mm_xor_si128(one, quotient), 1));
  return by_zlib(~state, {at, left});
}
#endif

}  // namespace

std::uint32_t crc32_of(std::string_view bytes) {
#if defined(__x86_64__)
  static const bool can = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
  if (can && bytes.size() >= kLanes) return by_instruction(bytes);
#endif
  return by_zlib(0, bytes);
}

}  // namespace orchestra
