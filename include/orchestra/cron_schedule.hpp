#pragma once
// CronSchedule: five fields of cron, or @daily, @every 1h30m and the like; when does it fire next. Since 0.2.
//
//   auto schedule = CronSchedule::parse("30 3 * * mon-fri");
//   auto at = schedule->next(now_seconds, *TimeZone::load("Europe/Berlin").value());
#include <cstdint>
#include <optional>
#include <string_view>

#include "orchestra/result.hpp"
#include "orchestra/time_zone.hpp"

namespace orchestra {

/// A small value; any thread.
class ORC_API CronSchedule {
 public:
  /// Minute, hour, day of month, month, day of week: `*`, `?`, numbers, names (jan, mon), a-b, lists, steps.
  /// Days of month and week are joined by "or" when neither is `*` or `?`. `invalid` names the field.
  static Result<CronSchedule> parse(std::string_view text);
  /// The first time after `unix_seconds` at which it fires, in the clock of `zone`: a local time that
  /// daylight saving leaves out does not fire, one that comes twice fires twice. nullopt: not within five
  /// years.
  std::optional<std::int64_t> next(std::int64_t unix_seconds, const TimeZone& zone) const;
  /// The last time in (`after`, `until`]; nullopt: there is none.
  std::optional<std::int64_t> last(std::int64_t after, std::int64_t until, const TimeZone& zone) const;

 private:
  std::uint64_t minutes_ = 0, hours_ = 0, days_ = 0, months_ = 0, weekdays_ = 0;  // bit n: value n
  bool any_day_ = false, any_weekday_ = false;
  std::int64_t every_ = 0;  // seconds; 0: the fields count
  bool day_fires(std::int64_t days_since_epoch) const;
  std::optional<std::int64_t> next_local(std::int64_t local, std::int64_t limit) const;
};

}  // namespace orchestra
