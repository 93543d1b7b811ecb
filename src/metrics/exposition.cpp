// See exposition.hpp.
#include "metrics/exposition.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace orchestra {
namespace metrics {
namespace {

bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool digit(char c) { return c >= '0' && c <= '9'; }

// Bytes of the character that begins here; 0 if it is not UTF-8 (overlong, surrogate, cut).
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  unsigned low = 0x80, high = 0xbf;  // of the second byte
  if (first == 0xe0) low = 0xa0;
  if (first == 0xed) high = 0x9f;
  if (first == 0xf0) low = 0x90;
  if (first == 0xf4) high = 0x8f;
  if (byte(1) < low || byte(1) > high) return 0;
  for (std::size_t at = 2; at < length; ++at) {
    if ((byte(at) & 0xc0) != 0x80) return 0;
  }
  return length;
}

void write_value(std::string& out, std::string_view value) {
  std::size_t taken = 0;
  while (!value.empty()) {
    const std::size_t length = utf8_length(value);
    const std::string_view one = length == 0 ? std::string_view("\xef\xbf\xbd") : value.substr(0, length);
    if (taken + one.size() > kLabelValueMax) return;
    taken += one.size();
    if (one == "\\" || one == "\"") out += '\\';
    if (one == "\n") {
      out += "\\n";
    } else {
      out += one;
    }
    value.remove_prefix(std::max<std::size_t>(length, 1));
  }
}

void write_help(std::string& out, MetricsFormat format, std::string_view help) {
  for (const char c : help) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '\\' || (c == '"' && format == MetricsFormat::open_metrics)) out += '\\';
    out += c;
  }
}

void write_number(std::string& out, double value) {
  if (std::isnan(value)) {
    out += "NaN";
  } else if (std::isinf(value)) {
    out += value > 0 ? "+Inf" : "-Inf";
  } else {
    char text[32];
    out.append(text, std::to_chars(text, text + sizeof text, value).ptr);
  }
}

// The text up to the value: NAME SUFFIX {LABELS,MORE} and a blank.
void write_series(std::string& out, std::string_view name, std::string_view suffix, std::string_view labels,
                  std::string_view more) {
  out += name;
  out += suffix;
  if (!labels.empty() || !more.empty()) {
    out += '{';
    out += labels;
    if (!labels.empty() && !more.empty()) out += ',';
    out += more;
    out += '}';
  }
  out += ' ';
}

}  // namespace

bool is_metric_name(std::string_view name) {
  if (name.empty() || digit(name.front())) return false;
  return std::all_of(name.begin(), name.end(), [](char c) { return letter(c) || digit(c) || c == ':'; });
}

bool is_label_name(std::string_view name) {
  if (name.empty() || digit(name.front()) || name.starts_with("__")) return false;
  return std::all_of(name.begin(), name.end(), [](char c) { return letter(c) || digit(c); });
}

std::string label_text(const MetricLabels& labels) {
  std::string out;
  for (const auto& [name, value] : labels) {
    if (!out.empty()) out += ',';
    out += name;
    out += "=\"";
    write_value(out, value);
    out += '"';
  }
  return out;
}

void write_family(std::string& out, MetricsFormat format, MetricKind kind, std::string_view name,
                  std::string_view help) {
  if (format == MetricsFormat::open_metrics && kind == MetricKind::counter) name.remove_suffix(6);  // _total
  static constexpr const char* kKinds[] = {"counter", "gauge", "histogram"};
  out += "# HELP ";
  out += name;
  out += ' ';
  write_help(out, format, help);
  out += "\n# TYPE ";
  out += name;
  out += ' ';
  out += kKinds[static_cast<int>(kind)];
  out += '\n';
}

void write_sample(std::string& out, MetricsFormat format, std::string_view name, std::string_view suffix,
                  std::string_view labels, std::string_view more, double value,
                  std::optional<std::int64_t> at_ms) {
  write_series(out, name, suffix, labels, more);
  write_number(out, value);
  if (at_ms) {
    out += ' ';
    if (format == MetricsFormat::open_metrics) {
      write_number(out, static_cast<double>(*at_ms) / 1000);
    } else {
      out += std::to_string(*at_ms);
    }
  }
  out += '\n';
}

void write_sample(std::string& out, std::string_view name, std::string_view suffix, std::string_view labels,
                  std::string_view more, std::uint64_t value) {
  write_series(out, name, suffix, labels, more);
  out += std::to_string(value);
  out += '\n';
}

std::string bound_text(MetricsFormat format, double bound) {
  std::string number;
  write_number(number, bound);
  if (format == MetricsFormat::open_metrics && number.find_first_of(".eI") == std::string::npos) number += ".0";
  return "le=\"" + number + "\"";
}

}  // namespace metrics

namespace {

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

bool same_word(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return (x | 0x20) == (y | 0x20); });
}

// One element of an Accept header.
struct MediaRange {
  std::string_view type, version;
  double q = 1;
};
MediaRange media_range(std::string_view text) {
  MediaRange out;
  for (bool first = true; !text.empty(); first = false) {
    const auto end = std::min(text.find(';'), text.size());
    const std::string_view part = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (first) {
      out.type = part;
    } else if (part.starts_with("version=")) {
      out.version = part.substr(8);
    } else if (part.starts_with("q=") || part.starts_with("Q=")) {
      const std::string_view number = part.substr(2);
      if (std::from_chars(number.data(), number.data() + number.size(), out.q).ec != std::errc()) out.q = 0;
    }
  }
  return out;
}

}  // namespace

MetricsFormat metrics_format(std::string_view accept) {
  double open = 0, text = 0;
  int specific = -1;  // of the range that decided `text`
  while (!accept.empty()) {
    const auto end = std::min(accept.find(','), accept.size());
    const MediaRange range = media_range(accept.substr(0, end));
    accept.remove_prefix(std::min(end + 1, accept.size()));
    if (same_word(range.type, "application/openmetrics-text")) {
      if (range.version.empty() || range.version == "1.0.0") open = std::max(open, range.q);
      continue;
    }
    const int weight = same_word(range.type, "text/plain") ? 2
                       : range.type == "text/*"            ? 1
                       : range.type == "*/*"               ? 0
                                                           : -1;
    if (weight > specific || (weight == specific && weight >= 0 && range.q > text)) {
      specific = weight;
      text = range.q;
    }
  }
  return open > text ? MetricsFormat::open_metrics : MetricsFormat::text;
}

const char* metrics_content_type(MetricsFormat format) {
  return format == MetricsFormat::text ? "text/plain; version=0.0.4; charset=utf-8"
                                       : "application/openmetrics-text; version=1.0.0; charset=utf-8";
}

}  // namespace orchestra
