#pragma once
// TimeZone: offsets from UTC of one IANA time zone, read from a TZif file. Since 0.2.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/result.hpp"

namespace orchestra {

/// Immutable; any thread.
class ORC_API TimeZone {
 public:
  /// Offset 0 for ever.
  static std::shared_ptr<const TimeZone> utc();
  /// The bytes of a TZif file (RFC 9636), version 1 to 4; version 2 and later with the rule for the time
  /// after the last transition. `corrupt` names what is wrong.
  static Result<std::shared_ptr<const TimeZone>> parse(std::string_view tzif, std::string name);
  /// Reads `directory`/`name`; files are cached and read again when they change. Names are IANA's
  /// ("Europe/Berlin"); "UTC" and "" need no file. `not_found`: no such zone, or no tzdata at all. Blocks for
  /// the length of one small read.
  static Result<std::shared_ptr<const TimeZone>> load(const std::string& name,
                                                      const std::string& directory = "/usr/share/zoneinfo");

  /// A stretch of time with one offset.
  struct Span {
    std::int64_t offset = 0;       ///< seconds east of UTC
    std::int64_t end = INT64_MAX;  ///< the first second (Unix time) that may have another offset
  };
  Span at(std::int64_t unix_seconds) const;
  const std::string& name() const { return name_; }

  /// One rule of a POSIX TZ string: when an offset begins, each year.
  struct Rule {
    enum class Kind : std::uint8_t { julian, day_of_year, month_week_day } kind = Kind::month_week_day;
    int month = 1, week = 1, day = 0;  ///< `day` alone for the first two kinds
    int seconds = 7200;                ///< after local midnight; may be negative or beyond a day
  };

 private:
  struct Transition {
    std::int64_t at = 0;
    std::int64_t offset = 0;
  };
  friend struct ZoneReader;
  Span after_last(std::int64_t unix_seconds) const;

  std::string name_;
  std::int64_t first_offset_ = 0;  // before the first transition
  std::vector<Transition> transitions_;
  // The rule of the footer.
  bool daylight_ = false;
  std::int64_t standard_offset_ = 0, daylight_offset_ = 0;
  Rule daylight_begins_, daylight_ends_;
};

}  // namespace orchestra
