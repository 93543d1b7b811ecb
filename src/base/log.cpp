// Log records as text lines (klog's form) and as JSON lines.
#include <time.h>

#include <cstdio>

#include "base/json.hpp"
#include "orchestra/engine.hpp"

namespace orchestra {

namespace {
std::string quoted_if_needed(const std::string& value) {
  if (!value.empty() && value.find_first_of(" \"\n\t=") == std::string::npos) return value;
  return json::serialize(json::string(value));
}
}  // namespace

std::string format_log_text(const LogRecord& record) {
  const time_t seconds = record.wall_ns / 1'000'000'000;
  tm utc{};
  gmtime_r(&seconds, &utc);
  char head[48];
  std::snprintf(head, sizeof head, "%c%02d%02d %02d:%02d:%02d.%06d ", "DIWE"[static_cast<int>(record.level)],
                utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                static_cast<int>(record.wall_ns % 1'000'000'000 / 1000));
  std::string line = head;
  line.append(record.component).append("] ").append(record.message);
  for (const auto& [name, value] : record.fields) {
    line.append(" ").append(name).append("=").append(quoted_if_needed(value));
  }
  return line;
}

std::string format_log_json(const LogRecord& record) {
  static constexpr const char* kNames[] = {"debug", "info", "warning", "error"};
  const time_t seconds = record.wall_ns / 1'000'000'000;
  tm utc{};
  gmtime_r(&seconds, &utc);
  char time[64];
  std::snprintf(time, sizeof time, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", utc.tm_year + 1900, utc.tm_mon + 1,
                utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, static_cast<int>(record.wall_ns % 1'000'000'000 / 1000));
  json::object out{{"time", time},
                   {"level", kNames[static_cast<int>(record.level)]},
                   {"component", record.component},
                   {"message", record.message}};
  for (const auto& [name, value] : record.fields) out[name] = value;
  return json::serialize(out);
}

}  // namespace orchestra
