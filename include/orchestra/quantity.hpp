#pragma once
// Quantity: "100m", "1.5Gi", "2e3" as exact fixed-point numbers, as Kubernetes reads and prints them.
//
// A value is an integer of nano units (10^-9) in 128 bits, which holds every quantity that upstream keeps
// without loss of meaning; finer input is rounded up, as upstream does. The suffix family (binary, decimal,
// exponent) is kept for printing. Since 0.1.
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "orchestra/result.hpp"

namespace orchestra {

class ORC_API Quantity {
 public:
  enum class Format : std::uint8_t { decimal_si, binary_si, decimal_exponent };

  Quantity() = default;
  /// `invalid` names the text and what a quantity looks like.
  static Result<Quantity> parse(std::string_view text);
  static Quantity from_int(std::int64_t value, Format format = Format::decimal_si);
  static Quantity from_milli(std::int64_t milli, Format format = Format::decimal_si);

  /// Canonical: no fraction, the largest suffix that keeps it exact: "1500m", "1536Mi", "0".
  std::string to_string() const;
  /// Rounded up to an integer; clamped to the range of int64.
  std::int64_t value() const;
  /// In thousandths, rounded up; clamped.
  std::int64_t milli_value() const;
  double as_double() const;
  bool is_zero() const { return nano_ == 0; }
  int sign() const { return nano_ > 0 ? 1 : nano_ < 0 ? -1 : 0; }
  Format format() const { return format_; }

  /// Saturating. The sum takes the format of the left side unless that is zero.
  Quantity& operator+=(const Quantity& other);
  Quantity& operator-=(const Quantity& other);
  friend Quantity operator+(Quantity a, const Quantity& b) { return a += b; }
  friend Quantity operator-(Quantity a, const Quantity& b) { return a -= b; }
  Quantity operator-() const;
  friend bool operator==(const Quantity& a, const Quantity& b) { return a.nano_ == b.nano_; }
  friend std::strong_ordering operator<=>(const Quantity& a, const Quantity& b) {
    return a.nano_ < b.nano_   ? std::strong_ordering::less
           : a.nano_ > b.nano_ ? std::strong_ordering::greater
                               : std::strong_ordering::equal;
  }

 private:
  __extension__ typedef __int128 Nano;
  Nano nano_ = 0;
  Format format_ = Format::decimal_si;
};

}  // namespace orchestra
