// Cron schedules as Kubernetes reads them (robfig/cron v3, parser.go and spec.go).
//
// `next` walks through stretches of constant offset from UTC. Within one, local time runs evenly, so the next
// match is plain calendar arithmetic; a match beyond the end of the stretch is none. That is the same as
// looking at every minute of real time, which is how the tests check it: skipped local times do not fire,
// repeated ones fire twice. (robfig steps by whole hours instead and differs in zones whose clocks move by
// half an hour.)
#include "orchestra/cron_schedule.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <string>
#include <vector>

namespace orchestra {

namespace {

constexpr std::int64_t kDay = 86400;
constexpr std::int64_t kYearsMax = 5;
constexpr std::size_t kTextMax = 1024;

std::int64_t floor_div(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

struct Field {
  const char* name;
  int least, most;
  std::vector<std::string_view> names;  // of least, least + 1, ...
};

const std::array<Field, 5>& fields() {
  static const std::array<Field, 5> all = {
      {{"minute", 0, 59, {}},
       {"hour", 0, 23, {}},
       {"day of month", 1, 31, {}},
       {"month", 1, 12, {"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
       {"day of week", 0, 6, {"sun", "mon", "tue", "wed", "thu", "fri", "sat"}}}};
  return all;
}

Error wrong(std::string_view text, const std::string& why) {
  return Error(Error::invalid, "cron", "schedule '" + std::string(text.substr(0, 100)) + "': " + why);
}

std::optional<int> number_of(std::string_view text) {
  if (text.empty() || text.size() > 6) return std::nullopt;
  int value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + (c - '0');
  }
  return value;
}

std::optional<int> value_of(const Field& field, std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (std::size_t i = 0; i < field.names.size(); ++i) {
    if (lower == field.names[i]) return field.least + static_cast<int>(i);
  }
  return number_of(text);
}

std::vector<std::string_view> split(std::string_view text, char by) {
  std::vector<std::string_view> parts;
  while (true) {
    const auto at = text.find(by);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

struct FieldValue {
  std::uint64_t bits = 0;
  bool any = false;  // written as * or ?
};

// One of the parts between commas: "*", "?", "3", "3-7", each with "/step".
Result<void> add_range(const Field& field, std::string_view part, FieldValue& value) {
  const auto bad = [&](const std::string& why) { return wrong(part, std::string(field.name) + ": " + why); };
  const auto by_slash = split(part, '/');
  const auto ends = split(by_slash[0], '-');
  if (by_slash.size() > 2 || ends.size() > 2) return bad("too many hyphens or slashes");
  int begin = field.least;
  int end = field.most;
  bool any = false;
  if (ends[0] == "*" || ends[0] == "?") {
    if (ends.size() > 1) return bad("a range begins with a number");
    any = true;
  } else {
    const auto low = value_of(field, ends[0]);
    const auto high = ends.size() > 1 ? value_of(field, ends[1]) : low;
    if (!low || !high) return bad("it is no number");
    begin = *low;
    end = *high;
    // "3/15" means "from 3 on, each 15".
    if (by_slash.size() == 2 && ends.size() == 1) end = field.most;
  }
  int step = 1;
  if (by_slash.size() == 2) {
    const auto given = number_of(by_slash[1]);
    if (!given) return bad("its step is no number");
    if (*given == 0) return bad("its step must be positive");
    step = *given;
    if (step > 1) any = false;
  }
  if (begin < field.least) return bad("it begins below " + std::to_string(field.least));
  if (end > field.most) return bad("it ends above " + std::to_string(field.most));
  if (begin > end) return bad("it begins after its end");
  for (int i = begin; i <= end; i += step) value.bits |= std::uint64_t{1} << static_cast<unsigned>(i);
  value.any |= any;
  return {};
}

// A Go duration ("1h30m", "90s"), whole seconds, at least one.
std::optional<std::int64_t> duration_seconds(std::string_view text) {
  double total = 0;
  if (text.empty()) return std::nullopt;
  while (!text.empty()) {
    std::size_t length = 0;
    double value = 0;
    double scale = 0;
    for (; length < text.size() && length < 12; ++length) {
      if (text[length] == '.' && scale == 0) {
        scale = 1;
      } else if (text[length] >= '0' && text[length] <= '9') {
        value = value * 10 + (text[length] - '0');
        if (scale != 0) scale *= 10;
      } else {
        break;
      }
    }
    if (length == 0) return std::nullopt;
    if (scale > 1) value /= scale;
    text.remove_prefix(length);
    struct Unit {
      std::string_view name;
      double seconds;
    };
    constexpr std::array<Unit, 6> kUnits = {
        {{"ms", 1e-3}, {"us", 1e-6}, {"ns", 1e-9}, {"h", 3600}, {"m", 60}, {"s", 1}}};
    const auto unit = std::find_if(kUnits.begin(), kUnits.end(),
                                   [&](const Unit& each) { return text.starts_with(each.name); });
    if (unit == kUnits.end()) return std::nullopt;
    text.remove_prefix(unit->name.size());
    total += value * unit->seconds;
  }
  if (total > 1e10) return std::nullopt;
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(total));
}

std::string_view macro_of(std::string_view text) {
  struct Macro {
    std::string_view name, fields;
  };
  constexpr std::array<Macro, 7> kMacros = {{{"@yearly", "0 0 1 1 *"},
                                             {"@annually", "0 0 1 1 *"},
                                             {"@monthly", "0 0 1 * *"},
                                             {"@weekly", "0 0 * * 0"},
                                             {"@daily", "0 0 * * *"},
                                             {"@midnight", "0 0 * * *"},
                                             {"@hourly", "0 * * * *"}}};
  for (const Macro& macro : kMacros) {
    if (text == macro.name) return macro.fields;
  }
  return {};
}

bool has(std::uint64_t bits, unsigned value) { return (bits >> value & 1U) != 0; }

}  // namespace

Result<CronSchedule> CronSchedule::parse(std::string_view text) {
  CronSchedule schedule;
  if (text.size() > kTextMax) return wrong(text, "it is longer than 1024 characters");
  if (text.find("TZ=") != std::string_view::npos)
    return wrong(text, "a time zone does not belong here; use the field timeZone");
  if (text.starts_with("@every ")) {
    const auto seconds = duration_seconds(text.substr(7));
    if (!seconds) return wrong(text, "its duration is none, e.g. 1h30m");
    schedule.every_ = *seconds;
    return schedule;
  }
  std::string_view rest = text;
  if (text.starts_with('@')) {
    rest = macro_of(text);
    if (rest.empty()) return wrong(text, "this name is unknown");
  }
  std::vector<std::string_view> words;
  for (const std::string_view word : split(rest, ' ')) {
    for (const std::string_view each : split(word, '\t')) {
      if (!each.empty()) words.push_back(each);
    }
  }
  if (words.size() != 5)
    return wrong(text, "it has " + std::to_string(words.size()) + " fields instead of 5");
  std::array<FieldValue, 5> values;
  for (std::size_t i = 0; i < 5; ++i) {
    for (const std::string_view part : split(words[i], ',')) {
      ORC_TRY(add_range(fields()[i], part, values[i]));
    }
  }
  schedule.minutes_ = values[0].bits;
  schedule.hours_ = values[1].bits;
  schedule.days_ = values[2].bits;
  schedule.months_ = values[3].bits;
  schedule.weekdays_ = values[4].bits;
  schedule.any_day_ = values[2].any;
  schedule.any_weekday_ = values[4].any;
  return schedule;
}

bool CronSchedule::day_fires(std::int64_t days_since_epoch) const {
  using namespace std::chrono;
  const year_month_day date{sys_days{days(days_since_epoch)}};
  if (!has(months_, static_cast<unsigned>(date.month()))) return false;
  const bool day = has(days_, static_cast<unsigned>(date.day()));
  const bool weekday = has(weekdays_, static_cast<unsigned>(((days_since_epoch + 4) % 7 + 7) % 7));
  return any_day_ || any_weekday_ ? day && weekday : day || weekday;
}

// The first matching local second >= local and < limit.
std::optional<std::int64_t> CronSchedule::next_local(std::int64_t local, std::int64_t limit) const {
  std::int64_t day = floor_div(local, kDay);
  std::int64_t rest = local - day * kDay;
  for (; day * kDay < limit; ++day, rest = 0) {
    if (!day_fires(day)) continue;
    for (std::int64_t minute = (rest + 59) / 60; minute < 1440; ++minute) {
      if (!has(hours_, static_cast<unsigned>(minute / 60))) {
        minute += 59 - minute % 60;
        continue;
      }
      if (!has(minutes_, static_cast<unsigned>(minute % 60))) continue;
      const std::int64_t found = day * kDay + minute * 60;
      if (found >= limit) return std::nullopt;
      return found;
    }
  }
  return std::nullopt;
}

std::optional<std::int64_t> CronSchedule::next(std::int64_t unix_seconds, const TimeZone& zone) const {
  if (every_ > 0) return unix_seconds + every_;
  std::int64_t at = unix_seconds + 1;
  const std::int64_t limit = at + kYearsMax * 366 * kDay;
  while (at < limit) {
    const TimeZone::Span span = zone.at(at);
    const std::int64_t end = std::min(span.end, limit);
    if (const auto local = next_local(at + span.offset, end + span.offset)) return *local - span.offset;
    at = end;
  }
  return std::nullopt;
}

std::optional<std::int64_t> CronSchedule::last(std::int64_t after, std::int64_t until,
                                               const TimeZone& zone) const {
  if (until <= after) return std::nullopt;
  if (every_ > 0) {
    const std::int64_t times = (until - after) / every_;
    if (times == 0) return std::nullopt;
    return after + times * every_;
  }
  // Look back in growing windows: the last match is near, and each window holds few.
  for (const std::int64_t window :
       {std::int64_t{120}, 2 * std::int64_t{3600}, 2 * kDay, 62 * kDay, kYearsMax * 366 * kDay}) {
    const std::int64_t from = std::max(after, until - window);
    std::optional<std::int64_t> found;
    auto at = next(from, zone);
    while (at && *at <= until) {
      found = at;
      at = next(*at, zone);
    }
    if (found || from == after) return found;
  }
  return std::nullopt;
}

}  // namespace orchestra
