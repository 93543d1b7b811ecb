#pragma once
// Ids and units that the compiler keeps apart: Term{3} < Index{4} does not compile. Since 0.1.
#include <compare>
#include <cstdint>

namespace orchestra {

template <class Tag, class Rep = std::uint64_t>
struct Id {
  Rep value{};
  friend auto operator<=>(const Id&, const Id&) = default;
};

/// A count of bytes.
struct Bytes {
  std::uint64_t value{};
  friend auto operator<=>(const Bytes&, const Bytes&) = default;
  friend constexpr Bytes operator+(Bytes a, Bytes b) { return {a.value + b.value}; }
};
/// Thousandths of a processor.
struct Millicores {
  std::int64_t value{};
  friend auto operator<=>(const Millicores&, const Millicores&) = default;
};

inline namespace literals {
constexpr Bytes operator""_B(unsigned long long n) { return {n}; }
constexpr Bytes operator""_KiB(unsigned long long n) { return {n << 10}; }
constexpr Bytes operator""_MiB(unsigned long long n) { return {n << 20}; }
constexpr Bytes operator""_GiB(unsigned long long n) { return {n << 30}; }
}  // namespace literals

}  // namespace orchestra
