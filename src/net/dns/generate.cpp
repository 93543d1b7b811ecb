#include "net/dns/generate.hpp"

#include <algorithm>
#include <charconv>
#include <limits>

namespace orchestra::dns {
namespace {

constexpr std::uint32_t kWidthMax = 255;  // a name has no more octets

/// Takes a number off the front.
template <class Number>
std::optional<Number> take_number(std::string_view& text) {
  Number out{};
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (failed != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return out;
}

bool take(std::string_view& text, char c) {
  if (!text.starts_with(c)) return false;
  text.remove_prefix(1);
  return true;
}

/// 0x12 is "2.1".
std::string nibbles(std::uint32_t value, std::uint32_t width, bool upper) {
  const char* digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string out;
  do {
    if (!out.empty()) out += '.';
    out += digits[value & 0xf];
    value >>= 4;
  } while (value != 0 || out.size() + 1 < width);
  return out;
}

std::string in_base(std::uint32_t value, std::uint32_t width, char base) {
  if (base == 'n' || base == 'N') return nibbles(value, width, base == 'N');
  char digits[16];
  const int radix = base == 'o' ? 8 : base == 'd' ? 10 : 16;
  const auto end = std::to_chars(digits, digits + sizeof digits, value, radix).ptr;
  std::string out(digits, end);
  if (base == 'X') std::transform(out.begin(), out.end(), out.begin(), ::toupper);
  if (out.size() < width) out.insert(0, width - out.size(), '0');
  return out;
}

struct Form {
  std::int32_t offset = 0;
  std::uint32_t width = 0;
  char base = 'd';
};
/// What is behind "${", and the brace that ends it.
std::optional<Form> take_form(std::string_view& text) {
  Form out;
  const auto offset = take_number<std::int32_t>(text);
  if (!offset) return std::nullopt;
  out.offset = *offset;
  if (take(text, ',')) {
    const auto width = take_number<std::uint32_t>(text);
    if (!width || *width > kWidthMax) return std::nullopt;
    out.width = *width;
    if (take(text, ',')) {
      if (text.empty() || std::string_view("doxXnN").find(text[0]) == std::string_view::npos)
        return std::nullopt;
      out.base = text[0];
      text.remove_prefix(1);
    }
  }
  if (!take(text, '}')) return std::nullopt;
  return out;
}

}  // namespace

std::optional<GenerateRange> parse_generate_range(std::string_view text) {
  constexpr std::uint32_t kNumberMax = std::numeric_limits<std::int32_t>::max();
  GenerateRange out;
  const auto first = take_number<std::uint32_t>(text);
  if (!first || !take(text, '-')) return std::nullopt;
  const auto last = take_number<std::uint32_t>(text);
  if (!last || *last < *first || *last > kNumberMax) return std::nullopt;
  out.first = *first;
  out.last = *last;
  if (take(text, '/')) {
    const auto step = take_number<std::uint32_t>(text);
    if (!step || *step == 0 || *step > kNumberMax) return std::nullopt;
    out.step = *step;
  }
  if (!text.empty() || (out.last - out.first) / out.step >= kGenerateMax) return std::nullopt;
  return out;
}

Result<std::string> generate_text(std::string_view text, std::uint32_t number) {
  std::string out;
  const std::string_view whole = text;
  while (!text.empty()) {
    if (text[0] == '\\' && text.size() > 1) {
      out += text.substr(0, 2);  // the record's own reader knows what that is
      text.remove_prefix(2);
    } else if (text[0] != '$') {
      out += text[0];
      text.remove_prefix(1);
    } else if (text.starts_with("$$")) {
      out += '$';
      text.remove_prefix(2);
    } else {
      text.remove_prefix(1);
      Form form;
      if (take(text, '{')) {
        const auto read = take_form(text);
        if (!read)
          return Error(
              Error::invalid, "dns",
              "\"" + std::string(whole) + "\": want ${OFFSET}, ${OFFSET,WIDTH} or ${OFFSET,WIDTH,BASE}");
        form = *read;
      }
      const std::int64_t value = std::int64_t{number} + form.offset;
      if (value < 0 || value > std::numeric_limits<std::int32_t>::max())
        return Error(
            Error::invalid, "dns",
            "\"" + std::string(whole) + "\" of " + std::to_string(number) + " is no number that fits");
      out += in_base(static_cast<std::uint32_t>(value), form.width, form.base);
    }
  }
  return out;
}

}  // namespace orchestra::dns
