// TZif files (RFC 9636) and the POSIX TZ string in their footer.
//
// g++ 12 has no time zone database in std::chrono. A file holds transitions up to some year, and a rule for
// all years after it. Only the 64-bit block is used when there is one; version 1 files have a 32-bit block
// only. Counts are checked against the length before anything is read.
#include "orchestra/time_zone.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <optional>

#include "base/fd.hpp"

namespace orchestra {

namespace {

constexpr std::size_t kFileMax = 1 << 20;   // bytes; the largest of tzdata has 4 KiB
constexpr std::size_t kZonesCached = 1024;  // more are read each time
constexpr std::size_t kHeaderSize = 44;
constexpr std::int64_t kDay = 86400;

std::int64_t big_endian(std::string_view bytes) {
  std::uint64_t value = (static_cast<unsigned char>(bytes[0]) & 0x80U) != 0 ? ~std::uint64_t{0} : 0;
  for (const char byte : bytes) value = value << 8U | static_cast<unsigned char>(byte);
  return static_cast<std::int64_t>(value);
}

std::int64_t floor_div(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

std::int64_t day_number(int year, int month, int day) {
  using namespace std::chrono;
  return sys_days(std::chrono::year(year) / month / day).time_since_epoch().count();
}

int year_of(std::int64_t unix_seconds) {
  using namespace std::chrono;
  const sys_days day{days(floor_div(unix_seconds, kDay))};
  return static_cast<int>(year_month_day(day).year());
}

// Local seconds since the epoch at which a rule's moment lies in a year.
std::int64_t moment(const TimeZone::Rule& rule, int year) {
  using Kind = TimeZone::Rule::Kind;
  std::int64_t day = 0;
  const bool leap = std::chrono::year(year).is_leap();
  if (rule.kind == Kind::julian) {  // 1..365, 29 February is never counted
    day = day_number(year, 1, 1) + rule.day - 1 + (leap && rule.day >= 60 ? 1 : 0);
  } else if (rule.kind == Kind::day_of_year) {
    day = day_number(year, 1, 1) + rule.day;
  } else {
    const std::int64_t first = day_number(year, rule.month, 1);
    const std::int64_t weekday = ((first + 4) % 7 + 7) % 7;  // 1970-01-01 was a Thursday
    day = first + (rule.day - weekday + 7) % 7 + 7 * (rule.week - 1);
    const std::int64_t length =
        (rule.month == 12 ? day_number(year + 1, 1, 1) : day_number(year, rule.month + 1, 1)) - first;
    if (day >= first + length) day -= 7;  // week 5 means the last
  }
  return day * kDay + rule.seconds;
}

// Reads a POSIX TZ string from the left.
class PosixReader {
 public:
  explicit PosixReader(std::string_view text) : text_(text) {}
  bool done() const { return text_.empty(); }
  bool literal(char c) {
    if (text_.empty() || text_[0] != c) return false;
    text_.remove_prefix(1);
    return true;
  }
  bool name() {
    std::size_t length = 0;
    if (literal('<')) {
      length = text_.find('>');
      if (length == std::string_view::npos || length == 0) return false;
      text_.remove_prefix(length + 1);
      return true;
    }
    while (length < text_.size() && std::isalpha(static_cast<unsigned char>(text_[length])) != 0) ++length;
    text_.remove_prefix(length);
    return length >= 3;
  }
  std::optional<int> number(int most) {
    int value = 0;
    std::size_t length = 0;
    while (length < text_.size() && length < 4 && text_[length] >= '0' && text_[length] <= '9') {
      value = value * 10 + (text_[length++] - '0');
    }
    if (length == 0 || value > most) return std::nullopt;
    text_.remove_prefix(length);
    return value;
  }
  // [+-]hh[:mm[:ss]] in seconds
  std::optional<int> time(int hours_max) {
    const int sign = literal('-') ? -1 : 1;
    if (sign == 1) literal('+');
    const auto hours = number(hours_max);
    if (!hours) return std::nullopt;
    int seconds = *hours * 3600;
    for (const int unit : {60, 1}) {
      if (!literal(':')) break;
      const auto part = number(59);
      if (!part) return std::nullopt;
      seconds += *part * unit;
    }
    return sign * seconds;
  }
  bool rule(TimeZone::Rule& rule) {
    using Kind = TimeZone::Rule::Kind;
    if (literal('M')) {
      const auto month = number(12);
      const auto week = literal('.') ? number(5) : std::nullopt;
      const auto day = literal('.') ? number(6) : std::nullopt;
      if (!month || !week || !day || *month < 1 || *week < 1) return false;
      rule = {Kind::month_week_day, *month, *week, *day, 7200};
    } else {
      const bool julian = literal('J');
      const auto day = number(365);
      if (!day || (julian && *day < 1)) return false;
      rule = {julian ? Kind::julian : Kind::day_of_year, 1, 1, *day, 7200};
    }
    if (!literal('/')) return true;
    const auto seconds = time(167);
    if (!seconds) return false;
    rule.seconds = *seconds;
    return true;
  }

 private:
  std::string_view text_;
};

}  // namespace

// Fills a TimeZone from the bytes of a file.
struct ZoneReader {
  TimeZone& zone;
  std::string_view bytes;

  struct Header {
    int version = 1;
    std::size_t utc_count, standard_count, leap_count, time_count, type_count, char_count;
    std::size_t block_size(std::size_t time_size) const {
      return time_count * time_size + time_count + type_count * 6 + char_count +
             leap_count * (time_size + 4) + standard_count + utc_count;
    }
  };

  Error wrong(const std::string& what) const {
    return Error(Error::corrupt, "timezone", "zone file " + zone.name_ + ": " + what);
  }

  Result<Header> header() {
    if (bytes.size() < kHeaderSize || bytes.substr(0, 4) != "TZif") return wrong("it is no TZif file");
    Header h;
    h.version = bytes[4] == '\0' ? 1 : bytes[4] - '0';
    if (h.version < 1 || h.version > 9) return wrong("its version is unknown");
    std::size_t* const counts[] = {&h.utc_count,  &h.standard_count, &h.leap_count,
                                   &h.time_count, &h.type_count,     &h.char_count};
    for (std::size_t i = 0; i < 6; ++i) {
      const std::int64_t count = big_endian(bytes.substr(20 + i * 4, 4));
      if (count < 0 || count > static_cast<std::int64_t>(kFileMax)) return wrong("a count is too large");
      *counts[i] = static_cast<std::size_t>(count);
    }
    bytes.remove_prefix(kHeaderSize);
    return h;
  }

  Result<void> read() {
    auto head = header();
    if (!head) return head.error();
    std::size_t time_size = 4;
    if (head->version >= 2) {
      const std::size_t skip = head->block_size(4);
      if (bytes.size() < skip) return wrong("it ends early");
      bytes.remove_prefix(skip);
      head = header();
      if (!head) return head.error();
      time_size = 8;
    }
    if (bytes.size() < head->block_size(time_size)) return wrong("it ends early");
    if (head->type_count == 0) return wrong("it has no offset");
    ORC_TRY(block(*head, time_size));
    bytes.remove_prefix(head->block_size(time_size));
    return head->version >= 2 ? footer() : without_footer();
  }

  Result<void> block(const Header& head, std::size_t time_size) {
    const std::string_view times = bytes.substr(0, head.time_count * time_size);
    const std::string_view indexes = bytes.substr(times.size(), head.time_count);
    const std::string_view types = bytes.substr(times.size() + indexes.size(), head.type_count * 6);
    const auto offset_of = [&](std::size_t type) { return big_endian(types.substr(type * 6, 4)); };
    zone.first_offset_ = offset_of(0);
    for (std::size_t i = 0; i < head.time_count; ++i) {
      const auto type = static_cast<unsigned char>(indexes[i]);
      if (type >= head.type_count) return wrong("a transition names no offset");
      const TimeZone::Transition next{big_endian(times.substr(i * time_size, time_size)), offset_of(type)};
      if (next.offset < -93600 || next.offset > 93600) return wrong("an offset is beyond 26 hours");
      if (!zone.transitions_.empty() && next.at <= zone.transitions_.back().at)
        return wrong("its transitions are not in order");
      zone.transitions_.push_back(next);
    }
    return {};
  }

  Result<void> without_footer() {
    zone.standard_offset_ = zone.transitions_.empty() ? zone.first_offset_ : zone.transitions_.back().offset;
    return {};
  }

  Result<void> footer() {
    if (bytes.size() < 2 || bytes.front() != '\n') return wrong("it has no footer");
    const auto end = bytes.find('\n', 1);
    if (end == std::string_view::npos) return wrong("its footer does not end");
    const std::string_view text = bytes.substr(1, end - 1);
    if (text.empty()) return without_footer();
    PosixReader posix(text);
    const Error bad = wrong("its footer '" + std::string(text.substr(0, 80)) + "' is no POSIX TZ string");
    if (!posix.name()) return bad;
    const auto west = posix.time(24);
    if (!west) return bad;
    zone.standard_offset_ = -*west;
    if (posix.done()) return {};
    if (!posix.name()) return bad;
    zone.daylight_ = true;
    zone.daylight_offset_ = zone.standard_offset_ + 3600;
    if (!posix.literal(',')) {
      const auto daylight_west = posix.time(24);
      if (!daylight_west || !posix.literal(',')) return bad;
      zone.daylight_offset_ = -*daylight_west;
    }
    if (!posix.rule(zone.daylight_begins_) || !posix.literal(',') || !posix.rule(zone.daylight_ends_) ||
        !posix.done())
      return bad;
    return {};
  }
};

std::shared_ptr<const TimeZone> TimeZone::utc() {
  static const std::shared_ptr<const TimeZone> zone = [] {
    auto made = std::make_shared<TimeZone>();
    made->name_ = "UTC";
    return made;
  }();
  return zone;
}

Result<std::shared_ptr<const TimeZone>> TimeZone::parse(std::string_view tzif, std::string name) {
  auto zone = std::make_shared<TimeZone>();
  zone->name_ = std::move(name);
  ORC_TRY((ZoneReader{*zone, tzif}.read()));
  return std::shared_ptr<const TimeZone>(std::move(zone));
}

TimeZone::Span TimeZone::at(std::int64_t unix_seconds) const {
  const auto after =
      std::upper_bound(transitions_.begin(), transitions_.end(), unix_seconds,
                       [](std::int64_t time, const Transition& transition) { return time < transition.at; });
  if (after == transitions_.end()) return after_last(unix_seconds);
  const std::int64_t offset = after == transitions_.begin() ? first_offset_ : (after - 1)->offset;
  return {offset, after->at};
}

TimeZone::Span TimeZone::after_last(std::int64_t unix_seconds) const {
  constexpr std::int64_t kRuleEnds = 200'000'000'000;  // the year 8307: years stay within std::chrono's
  if (!daylight_ || unix_seconds > kRuleEnds) return {standard_offset_, INT64_MAX};
  const int year = year_of(unix_seconds);
  std::vector<Transition> turns;
  for (int y = year - 1; y <= year + 1; ++y) {
    turns.push_back({moment(daylight_begins_, y) - standard_offset_, daylight_offset_});
    turns.push_back({moment(daylight_ends_, y) - daylight_offset_, standard_offset_});
  }
  std::stable_sort(turns.begin(), turns.end(),
                   [](const Transition& a, const Transition& b) { return a.at < b.at; });
  Span span{turns.front().offset == daylight_offset_ ? standard_offset_ : daylight_offset_, INT64_MAX};
  for (const Transition& turn : turns) {
    if (turn.at > unix_seconds) {
      span.end = turn.at;
      break;
    }
    span.offset = turn.offset;
  }
  return span;
}

namespace {

// "Europe/Berlin": letters, digits, + - _ in parts; nothing that leaves the folder.
bool zone_name_ok(const std::string& name) {
  if (name.empty() || name.size() > 255 || name.front() == '/' || name.find("..") != std::string::npos)
    return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '/' || c == '_' || c == '-' || c == '+';
  });
}

struct CachedZone {
  std::int64_t changed_ns = 0;
  std::uint64_t inode = 0;
  std::shared_ptr<const TimeZone> zone;
};

}  // namespace

Result<std::shared_ptr<const TimeZone>> TimeZone::load(const std::string& name,
                                                       const std::string& directory) {
  if (name.empty() || name == "UTC" || name == "Etc/UTC") return utc();
  if (!zone_name_ok(name))
    return Error(Error::invalid, "timezone", "'" + name + "' is no name of a time zone");
  static std::mutex mutex;
  static std::map<std::string, CachedZone> cache;
  const std::string path = directory + "/" + name;
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return Error(Error::not_found, "timezone",
                 "unknown time zone '" + name + "': " + path + " is not there (package tzdata)");
  }
  const std::int64_t changed = status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec;
  {
    std::lock_guard lock(mutex);
    const auto known = cache.find(path);
    if (known != cache.end() && known->second.changed_ns == changed && known->second.inode == status.st_ino)
      return known->second.zone;
  }
  const auto bytes = read_file(path, kFileMax);
  if (!bytes) return bytes.error();
  auto zone = parse(*bytes, name);
  if (!zone) return zone;
  std::lock_guard lock(mutex);
  if (cache.size() < kZonesCached || cache.contains(path)) cache[path] = {changed, status.st_ino, *zone};
  return zone;
}

}  // namespace orchestra
