// Cron schedules and zone files: any bytes are refused or give an answer in bounded time.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "orchestra/cron_schedule.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (const auto schedule = orchestra::CronSchedule::parse(bytes))
    (void)schedule->next(1'767'225'600, *orchestra::TimeZone::utc());
  if (const auto zone = orchestra::TimeZone::parse(bytes, "fuzz")) {
    for (const std::int64_t at : {std::int64_t{-5'000'000'000}, std::int64_t{0}, std::int64_t{9'000'000'000}})
      (void)(*zone)->at(at);
  }
  return 0;
}
