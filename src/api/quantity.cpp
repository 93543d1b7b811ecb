// Quantities: k8s.io/apimachinery/pkg/api/resource on 128-bit nano units.
//
// Upstream switches between int64 with a scale and arbitrary decimals; everything it keeps is a multiple of
// 10^-9 (finer input is rounded away from zero) and below about 2^63 in whole units. 128 bits of nano units
// hold that with room to spare, so one representation serves; values beyond are clamped, as upstream clamps.
#include "orchestra/quantity.hpp"

#include <algorithm>
#include <array>

namespace orchestra {
namespace {

__extension__ typedef __int128 Wide;
constexpr Wide kNanoPerUnit = 1'000'000'000;
constexpr Wide kMax = static_cast<Wide>(INT64_MAX) * kNanoPerUnit;

struct Suffix {
  std::string_view text;
  int exponent;  ///< of 10 or of 2
  Quantity::Format format;
};
constexpr Suffix kSuffixes[] = {
    {"Ki", 10, Quantity::Format::binary_si}, {"Mi", 20, Quantity::Format::binary_si},
    {"Gi", 30, Quantity::Format::binary_si}, {"Ti", 40, Quantity::Format::binary_si},
    {"Pi", 50, Quantity::Format::binary_si}, {"Ei", 60, Quantity::Format::binary_si},
    {"n", -9, Quantity::Format::decimal_si}, {"u", -6, Quantity::Format::decimal_si},
    {"m", -3, Quantity::Format::decimal_si}, {"", 0, Quantity::Format::decimal_si},
    {"k", 3, Quantity::Format::decimal_si},  {"M", 6, Quantity::Format::decimal_si},
    {"G", 9, Quantity::Format::decimal_si},  {"T", 12, Quantity::Format::decimal_si},
    {"P", 15, Quantity::Format::decimal_si}, {"E", 18, Quantity::Format::decimal_si},
};

Error malformed(std::string_view text) {
  return Error(Error::invalid, "quantity",
               "quantities must match the regular expression "
               "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$' (found \"" +
                   std::string(text) + "\"; write for example 500m, 1.5 or 2Gi)");
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

struct Parts {
  bool negative = false;
  std::string digits;  ///< without leading zeros; at most a few dozen are kept
  int scale = 0;       ///< value = digits * 10^scale
  std::string_view suffix;
};

bool split(std::string_view text, Parts& parts) {
  std::size_t i = 0;
  if (i < text.size() && (text[i] == '+' || text[i] == '-')) parts.negative = text[i++] == '-';
  bool any = false;
  bool point = false;
  for (; i < text.size() && (is_digit(text[i]) || text[i] == '.'); ++i) {
    if (text[i] == '.') {
      if (point) return false;
      point = true;
      continue;
    }
    any = true;
    if (point) --parts.scale;
    parts.digits += text[i];
  }
  parts.suffix = text.substr(i);
  return any;
}

/// "e3", "E-3"; "E" alone is the suffix exa.
bool read_exponent(std::string_view suffix, int& exponent) {
  if (suffix.size() < 2 || (suffix[0] != 'e' && suffix[0] != 'E')) return false;
  std::size_t i = 1;
  const bool negative = suffix[i] == '-';
  if (suffix[i] == '-' || suffix[i] == '+') ++i;
  if (i == suffix.size()) return false;
  int value = 0;
  for (; i < suffix.size(); ++i) {
    if (!is_digit(suffix[i]) || value > 1000) return false;
    value = value * 10 + (suffix[i] - '0');
  }
  exponent = negative ? -value : value;
  return true;
}

/// digits * 10^scale * 2^binary in nano units, rounded up, clamped.
Wide to_nano(const std::string& digits, int scale, int binary) {
  Wide value = 0;
  bool inexact = false;
  std::size_t used = 0;
  // 10^28 < 2^94: room for a shift by at most 30 bits before the division below.
  while (used < digits.size() && value < static_cast<Wide>(1'000'000'000'000'000'000) * 1'000'000'000) {
    value = value * 10 + (digits[used++] - '0');
  }
  for (std::size_t i = used; i < digits.size(); ++i) inexact = inexact || digits[i] != '0';
  int exponent = scale + static_cast<int>(digits.size() - used) + 9;
  if (value == 0) return 0;
  while (binary > 0 || exponent > 0) {
    if (value > kMax * 1024 && exponent >= 0) return kMax;
    if (binary > 0 && value <= kMax * 1024) {
      value *= 2;
      --binary;
    } else if (exponent > 0) {
      value *= 10;
      --exponent;
    } else {
      inexact = inexact || value % 10 != 0;
      value /= 10;
      ++exponent;
      if (exponent == 0 && binary > 0 && value > kMax) return kMax;
    }
  }
  while (exponent < 0 && value > 0) {
    inexact = inexact || value % 10 != 0;
    value /= 10;
    ++exponent;
  }
  if (inexact) ++value;
  return std::min(value, kMax);
}

std::string decimal(Wide value) {
  if (value == 0) return "0";
  const bool negative = value < 0;
  if (negative) value = -value;
  std::string text;
  for (; value > 0; value /= 10) text += static_cast<char>('0' + static_cast<int>(value % 10));
  if (negative) text += '-';
  std::reverse(text.begin(), text.end());
  return text;
}

Wide clamp(Wide value) { return std::clamp(value, -kMax, kMax); }

/// Away from zero, as upstream rounds.
std::int64_t divide_up(Wide nano, Wide unit) {
  Wide quotient = nano / unit;
  if (nano % unit != 0) quotient += nano > 0 ? 1 : -1;
  return static_cast<std::int64_t>(std::clamp<Wide>(quotient, INT64_MIN, INT64_MAX));
}

}  // namespace

Result<Quantity> Quantity::parse(std::string_view text) {
  Parts parts;
  if (text.size() > 128 || !split(text, parts)) return malformed(text);
  Quantity result;
  int ten = 0, two = 0;
  bool known = false;
  for (const Suffix& suffix : kSuffixes) {
    if (suffix.text != parts.suffix) continue;
    known = true;
    result.format_ = suffix.format;
    (suffix.format == Format::binary_si ? two : ten) = suffix.exponent;
  }
  if (!known) {
    if (!read_exponent(parts.suffix, ten)) return malformed(text);
    result.format_ = Format::decimal_exponent;
  }
  result.nano_ = to_nano(parts.digits, parts.scale + ten, two);
  if (parts.negative) result.nano_ = -result.nano_;
  return result;
}

Quantity Quantity::from_int(std::int64_t value, Format format) {
  Quantity result;
  result.nano_ = static_cast<Nano>(value) * kNanoPerUnit;
  result.format_ = format;
  return result;
}

Quantity Quantity::from_milli(std::int64_t milli, Format format) {
  Quantity result;
  result.nano_ = static_cast<Nano>(milli) * 1'000'000;
  result.format_ = format;
  return result;
}

std::string Quantity::to_string() const {
  if (nano_ == 0) return "0";
  const Wide magnitude = nano_ < 0 ? -nano_ : nano_;
  // Binary suffixes are for whole numbers from 1024 on; all else prints as decimal.
  if (format_ == Format::binary_si && magnitude >= 1024 * kNanoPerUnit && nano_ % kNanoPerUnit == 0) {
    Wide value = nano_ / kNanoPerUnit;
    int index = -1;
    while (index < 5 && value % 1024 == 0) {
      value /= 1024;
      ++index;
    }
    return decimal(value) + (index < 0 ? "" : std::string(kSuffixes[index].text));
  }
  Wide value = nano_;
  int exponent = -9;
  while (exponent < 18 && value % 1000 == 0) {
    value /= 1000;
    exponent += 3;
  }
  if (format_ == Format::decimal_exponent)
    return decimal(value) + (exponent == 0 ? "" : "e" + std::to_string(exponent));
  for (const Suffix& suffix : kSuffixes) {
    if (suffix.format == Format::decimal_si && suffix.exponent == exponent)
      return decimal(value) + std::string(suffix.text);
  }
  return decimal(value);
}

std::int64_t Quantity::value() const { return divide_up(nano_, kNanoPerUnit); }
std::int64_t Quantity::milli_value() const { return divide_up(nano_, 1'000'000); }
double Quantity::as_double() const { return static_cast<double>(nano_) / 1e9; }

Quantity& Quantity::operator+=(const Quantity& other) {
  if (nano_ == 0) format_ = other.format_;
  nano_ = clamp(nano_ + other.nano_);
  return *this;
}
Quantity& Quantity::operator-=(const Quantity& other) {
  if (nano_ == 0) format_ = other.format_;
  nano_ = clamp(nano_ - other.nano_);
  return *this;
}
Quantity Quantity::operator-() const {
  Quantity result = *this;
  result.nano_ = -nano_;
  return result;
}

}  // namespace orchestra
