// RFC 3339 in and out, and ages as kubectl prints them (apimachinery/pkg/util/duration).
// Calendar arithmetic: days from civil, H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
#include <array>
#include <cstdio>

#include "api/meta.hpp"

namespace orchestra::api {
namespace {

struct Date {
  std::int64_t year = 1970;
  unsigned month = 1, day = 1;
};

std::int64_t days_from_civil(Date date) {
  const std::int64_t y = date.year - (date.month <= 2 ? 1 : 0);
  const std::int64_t era = (y >= 0 ? y : y - 399) / 400;
  const std::int64_t yoe = y - era * 400;
  const std::int64_t doy =
      (153 * (static_cast<std::int64_t>(date.month) + (date.month > 2 ? -3 : 9)) + 2) / 5 + date.day - 1;
  const std::int64_t doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
  return era * 146097 + doe - 719468;
}

Date civil_from_days(std::int64_t days) {
  days += 719468;
  const std::int64_t era = (days >= 0 ? days : days - 146096) / 146097;
  const std::int64_t doe = days - era * 146097;
  const std::int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
  const std::int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
  const std::int64_t mp = (5 * doy + 2) / 153;
  const auto day = static_cast<unsigned>(doy - (153 * mp + 2) / 5 + 1);
  const auto month = static_cast<unsigned>(mp < 10 ? mp + 3 : mp - 9);
  return {yoe + era * 400 + (month <= 2 ? 1 : 0), month, day};
}

std::int64_t floor_div(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

// 0000-01-01T00:00:00Z and 9999-12-31T23:59:59Z
constexpr std::int64_t kSecondsMin = -62'167'219'200, kSecondsMax = 253'402'300'799;

void put_digits(char* at, unsigned number, int count) {
  for (; count > 0; --count, number /= 10) at[count - 1] = static_cast<char>('0' + number % 10);
}

/// Whole seconds as 2026-11-23T15:04:05.
std::string format_seconds(std::int64_t seconds) {
  const std::int64_t days = floor_div(seconds, 86400);
  const std::int64_t rest = seconds - days * 86400;
  const Date date = civil_from_days(days);
  if (date.year >= 0 && date.year <= 9999) {
    std::string out = "0000-00-00T00:00:00";
    put_digits(out.data(), static_cast<unsigned>(date.year), 4);
    put_digits(out.data() + 5, date.month, 2);
    put_digits(out.data() + 8, date.day, 2);
    put_digits(out.data() + 11, static_cast<unsigned>(rest / 3600), 2);
    put_digits(out.data() + 14, static_cast<unsigned>(rest / 60 % 60), 2);
    put_digits(out.data() + 17, static_cast<unsigned>(rest % 60), 2);
    return out;
  }
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%04lld-%02u-%02uT%02lld:%02lld:%02lld",
                static_cast<long long>(date.year), date.month, date.day, static_cast<long long>(rest / 3600),
                static_cast<long long>(rest / 60 % 60), static_cast<long long>(rest % 60));
  return buffer.data();
}

/// `count` digits at `at`; -1 if there are none.
int number_at(std::string_view text, std::size_t at, std::size_t count) {
  if (at + count > text.size()) return -1;
  int value = 0;
  for (std::size_t i = at; i < at + count; ++i) {
    if (text[i] < '0' || text[i] > '9') return -1;
    value = value * 10 + (text[i] - '0');
  }
  return value;
}

unsigned days_in_month(int year, int month) {
  static constexpr unsigned kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  return month == 2 && leap ? 29 : kDays[month - 1];
}

}  // namespace

bool WallTime::in_range() const {
  return seconds >= kSecondsMin && seconds <= kSecondsMax && nanos >= 0 && nanos < kSecond;
}

WallTime WallTime::of(std::int64_t wall_ns) {
  const std::int64_t rest = wall_ns % kSecond;
  return {floor_div(wall_ns, kSecond), rest < 0 ? rest + kSecond : rest};
}

std::string format_time(WallTime time) { return format_seconds(time.seconds) + "Z"; }
std::string format_time(std::int64_t wall_ns) { return format_time(WallTime::of(wall_ns)); }

std::string format_micro_time(WallTime time) {
  char micros[] = ".000000Z";
  put_digits(micros + 1, static_cast<unsigned>(time.nanos / 1000), 6);
  return format_seconds(time.seconds) + micros;
}
std::string format_micro_time(std::int64_t wall_ns) { return format_micro_time(WallTime::of(wall_ns)); }

std::optional<WallTime> parse_wall_time(std::string_view text) {
  const int year = number_at(text, 0, 4), month = number_at(text, 5, 2), day = number_at(text, 8, 2);
  const int hour = number_at(text, 11, 2), minute = number_at(text, 14, 2), second = number_at(text, 17, 2);
  if (year < 0 || month < 1 || month > 12 || day < 1 || hour < 0 || hour > 23 || minute < 0 || minute > 59)
    return std::nullopt;
  if (second < 0 || second > 59 || static_cast<unsigned>(day) > days_in_month(year, month))
    return std::nullopt;
  if (text[4] != '-' || text[7] != '-' || (text[10] != 'T' && text[10] != 't') || text[13] != ':' ||
      text[16] != ':')
    return std::nullopt;
  std::size_t at = 19;
  std::int64_t nanos = 0;
  if (at < text.size() && text[at] == '.') {
    const std::size_t start = ++at;
    std::int64_t scale = kSecond / 10;
    for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at, scale /= 10)
      nanos += (text[at] - '0') * scale;
    if (at == start) return std::nullopt;
  }
  std::int64_t offset = 0;
  const std::string_view zone = text.substr(at);
  if (zone != "Z" && zone != "z") {
    const int zone_hour = number_at(zone, 1, 2), zone_minute = number_at(zone, 4, 2);
    if (zone.size() != 6 || (zone[0] != '+' && zone[0] != '-') || zone[3] != ':') return std::nullopt;
    if (zone_hour < 0 || zone_hour > 23 || zone_minute < 0 || zone_minute > 59) return std::nullopt;
    offset = (zone_hour * 3600 + zone_minute * 60) * (zone[0] == '-' ? -1 : 1);
  }
  const std::int64_t days = days_from_civil({year, static_cast<unsigned>(month), static_cast<unsigned>(day)});
  const WallTime time{days * 86400 + hour * 3600 + minute * 60 + second - offset, nanos};
  if (!time.in_range()) return std::nullopt;
  return time;
}

std::optional<std::int64_t> parse_time(std::string_view text) {
  const auto time = parse_wall_time(text);
  if (!time) return std::nullopt;
  if (time->seconds > INT64_MAX / kSecond - 1) return INT64_MAX;
  if (time->seconds < INT64_MIN / kSecond + 1) return INT64_MIN;
  return time->seconds * kSecond + time->nanos;
}

std::string human_duration(std::int64_t ns) {
  const std::int64_t seconds = ns / kSecond;
  const auto pair = [](std::int64_t a, const char* unit, std::int64_t b, const char* small) {
    return std::to_string(a) + unit + (b == 0 ? std::string() : std::to_string(b) + small);
  };
  if (seconds < -1) return "<invalid>";
  if (seconds < 0) return "0s";
  if (seconds < 120) return std::to_string(seconds) + "s";
  const std::int64_t minutes = seconds / 60;
  if (minutes < 10) return pair(minutes, "m", seconds % 60, "s");
  if (minutes < 180) return std::to_string(minutes) + "m";
  const std::int64_t hours = minutes / 60;
  if (hours < 8) return pair(hours, "h", minutes % 60, "m");
  if (hours < 48) return std::to_string(hours) + "h";
  const std::int64_t days = hours / 24;
  if (hours < 24 * 8) return pair(days, "d", hours % 24, "h");
  if (hours < 24 * 365 * 2) return std::to_string(days) + "d";
  if (hours < 24 * 365 * 8) return pair(days / 365, "y", days % 365, "d");
  return std::to_string(days / 365) + "y";
}

std::string age(std::string_view time, Now now) {
  const std::optional<std::int64_t> then = parse_time(time);
  if (!then) return "<unknown>";
  std::int64_t ns = 0;
  if (__builtin_sub_overflow(now.wall_ns, *then, &ns)) ns = *then < 0 ? INT64_MAX : INT64_MIN;
  return human_duration(ns);
}

}  // namespace orchestra::api
