// CronSchedule and TimeZone: against minute-by-minute enumeration with the C library's zones, and by table.
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <random>

#include "base/fd.hpp"
#include "orchestra/cron_schedule.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;

namespace {

constexpr std::int64_t k2020 = 1'577'836'800;

std::int64_t at(const char* utc) {
  std::tm tm{};
  REQUIRE(strptime(utc, "%Y-%m-%d %H:%M:%S", &tm) != nullptr);
  return timegm(&tm);
}

// The offset that the C library knows, from the same files by other code.
struct LibcZone {
  explicit LibcZone(const char* name) {
    setenv("TZ", name, 1);
    tzset();
  }
  ~LibcZone() {
    unsetenv("TZ");
    tzset();
  }
  std::tm local(std::int64_t seconds) const {
    std::tm tm{};
    const auto time = static_cast<std::time_t>(seconds);
    localtime_r(&time, &tm);
    return tm;
  }
};

std::string next_text(const char* schedule, const char* from, const char* zone = "UTC") {
  const auto parsed = CronSchedule::parse(schedule);
  if (!parsed) return parsed.error().message();
  const auto next = parsed->next(at(from), **TimeZone::load(zone));
  if (!next) return "never";
  const auto time = static_cast<std::time_t>(*next);
  std::tm tm{};
  gmtime_r(&time, &tm);
  char text[32];
  strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
  return text;
}

}  // namespace

TEST_CASE("offsets are those of the C library, before, within and long after the table of the file") {
  for (const char* name : {"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata",
                           "America/Sao_Paulo", "Africa/Casablanca", "Pacific/Apia", "Europe/Dublin"}) {
    const auto zone = TimeZone::load(name);
    if (!zone && zone.error().is(Error::not_found)) ORC_SKIP("time zones (1)", "tzdata is not installed");
    REQUIRE_MESSAGE(zone, zone.error().to_string());
    const LibcZone libc(name);
    std::mt19937_64 random(7);
    for (int i = 0; i < 3000; ++i) {
      // 1900 to 2150
      const std::int64_t seconds = -2'208'988'800 + static_cast<std::int64_t>(random() % 7'889'400'000ULL);
      const auto span = (*zone)->at(seconds);
      INFO(name << " " << seconds);
      REQUIRE(span.offset == libc.local(seconds).tm_gmtoff);
      REQUIRE(span.end > seconds);
      if (span.end < 5'000'000'000) REQUIRE((*zone)->at(span.end - 1).offset == span.offset);
    }
  }
}

TEST_CASE("next is what minute by minute enumeration finds, in several zones over ten years") {
  const std::vector<const char*> schedules = {"30 2 * * *",    "0 0 1 * *",        "15 10 * * mon-fri",
                                              "0 0 13 * fri",  "*/20 1-3 * * sun", "0 12 29 2 *",
                                              "59 23 31 12 ?", "0 1 * 3,10,11 0",  "5/25 0 */10 * *"};
  for (const char* name :
       {"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"}) {
    const auto zone = TimeZone::load(name);
    if (!zone && zone.error().is(Error::not_found)) ORC_SKIP("time zones (2)", "tzdata is not installed");
    REQUIRE(zone);
    // Local time of each minute once; every schedule is then held against it.
    std::vector<std::optional<std::int64_t>> next(schedules.size());
    std::vector<CronSchedule> parsed;
    for (std::size_t i = 0; i < schedules.size(); ++i) {
      parsed.push_back(CronSchedule::parse(schedules[i]).value());
      next[i] = parsed[i].next(k2020 - 1, **zone);
    }
    const auto matches = [&](std::size_t i, int minute, int hour, int day, int month, int weekday) {
      switch (i) {
        case 0:
          return minute == 30 && hour == 2;
        case 1:
          return minute == 0 && hour == 0 && day == 1;
        case 2:
          return minute == 15 && hour == 10 && weekday >= 1 && weekday <= 5;
        case 3:
          return minute == 0 && hour == 0 && (day == 13 || weekday == 5);
        case 4:
          return minute % 20 == 0 && hour >= 1 && hour <= 3 && weekday == 0;
        case 5:
          return minute == 0 && hour == 12 && day == 29 && month == 2;
        case 6:
          return minute == 59 && hour == 23 && day == 31 && month == 12;
        case 7:
          return minute == 0 && hour == 1 && (month == 3 || month == 10 || month == 11) && weekday == 0;
        default:
          return (minute == 5 || minute == 30 || minute == 55) && hour == 0 &&
                 (day == 1 || day == 11 || day == 21 || day == 31);
      }
    };
    TimeZone::Span span;
    span.end = INT64_MIN;
    bool all_right = true;
    for (std::int64_t t = k2020; t < k2020 + 3653LL * 86400 && all_right; t += 60) {
      if (t >= span.end) span = (*zone)->at(t);
      const std::int64_t local = t + span.offset;
      const std::int64_t days = local / 86400;
      const int minute = static_cast<int>(local / 60 % 60);
      const int hour = static_cast<int>(local / 3600 % 24);
      if (minute % 5 != 0 && minute != 59) continue;  // no schedule above fires in these
      const std::chrono::year_month_day date{std::chrono::sys_days{std::chrono::days(days)}};
      for (std::size_t i = 0; i < schedules.size(); ++i) {
        const bool fires =
            matches(i, minute, hour, static_cast<int>(static_cast<unsigned>(date.day())),
                    static_cast<int>(static_cast<unsigned>(date.month())), static_cast<int>((days + 4) % 7));
        const bool said = next[i] == t;
        if (fires != said) {
          INFO(name << " " << schedules[i] << " at " << t);
          CHECK(fires == said);
          all_right = false;
          break;
        }
        if (said) next[i] = parsed[i].next(t, **zone);
      }
    }
    CHECK(all_right);
  }
}

TEST_CASE("schedules are read as robfig's parser reads them") {
  CHECK(next_text("@daily", "2026-01-01 10:00:00") == "2026-01-02 00:00:00");
  CHECK(next_text("@every 1h30m", "2026-01-01 10:00:10") == "2026-01-01 11:30:10");
  CHECK(next_text("0 0 31 2 *", "2026-01-01 00:00:00") == "never");
  CHECK(next_text("0 0 29 FEB *", "2026-01-01 00:00:00") == "2028-02-29 00:00:00");
  // A step above 1 makes a star a restriction: the 1st, 11th, 21st, 31st or a Monday.
  CHECK(next_text("0 0 */10 * 1", "2026-01-02 00:00:00") == "2026-01-05 00:00:00");
  // Skipped by daylight saving: not at all on that day.
  CHECK(next_text("30 2 * * *", "2026-03-28 12:00:00", "Europe/Berlin") == "2026-03-30 00:30:00");
  // Repeated: twice.
  CHECK(next_text("30 2 * * *", "2026-10-25 00:30:00", "Europe/Berlin") == "2026-10-25 01:30:00");
  for (const char* bad : {"", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 7",
                          "5-1 * * * *", "*/0 * * * *", "a * * * *", "1-2-3 * * * *", "* * * * * *",
                          "TZ=UTC * * * * *", "@often", "@every soon", "*-5 * * * *", ", * * * *"}) {
    INFO(bad);
    CHECK_FALSE(CronSchedule::parse(bad));
  }
}

TEST_CASE("the last run of a pause is found however long the pause was") {
  const auto schedule = CronSchedule::parse("*/5 * * * *").value();
  const TimeZone& utc = *TimeZone::utc();
  CHECK(schedule.last(k2020, k2020 + 299, utc) == std::nullopt);
  CHECK(schedule.last(k2020, k2020 + 300, utc) == k2020 + 300);
  CHECK(schedule.last(k2020, k2020 + 86400LL * 900 + 17, utc) == k2020 + 86400LL * 900);
  CHECK(CronSchedule::parse("0 0 1 1 *").value().last(k2020 + 1, k2020 + 86400LL * 800, utc) ==
        at("2022-01-01 00:00:00"));
}

TEST_CASE("a damaged zone file is refused at every length and every flipped byte is survived") {
  const auto bytes = read_file("/usr/share/zoneinfo/Europe/Berlin", 1 << 20);
  if (!bytes) ORC_SKIP("time zones (3)", "tzdata is not installed");
  for (std::size_t length = 0; length < bytes->size(); ++length) {
    const auto zone = TimeZone::parse(std::string_view(*bytes).substr(0, length), "cut");
    if (length + 1 < bytes->size()) CHECK_FALSE(zone);
  }
  for (std::size_t i = 0; i < bytes->size(); ++i) {
    std::string damaged = *bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 0xff);
    if (const auto zone = TimeZone::parse(damaged, "flipped")) (void)(*zone)->at(k2020);
  }
  CHECK(TimeZone::load("../../etc/passwd").error().is(Error::invalid));
  CHECK(TimeZone::load("Mars/Olympus").error().is(Error::not_found));
}
