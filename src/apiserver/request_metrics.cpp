// Request counters: see request_metrics.hpp.
#include "apiserver/request_metrics.hpp"

namespace orchestra::apiserver {

void RequestMetrics::count(const std::string& verb, const std::string& group, const std::string& resource,
                           int code, std::int64_t nanoseconds) {
  std::lock_guard lock(mutex_);
  auto key = std::make_tuple(verb, group, resource, code);
  if (series_.size() >= kSeriesMax && !series_.contains(key)) key = {verb, "", "other", code};
  Series& series = series_[key];
  ++series.count;
  series.seconds += static_cast<double>(nanoseconds) / 1e9;
}

std::string RequestMetrics::text() const {
  std::lock_guard lock(mutex_);
  std::string totals =
      "# HELP apiserver_request_total Requests by verb, resource and HTTP code.\n# TYPE "
      "apiserver_request_total counter\n";
  std::string seconds =
      "# HELP apiserver_request_duration_seconds_sum Time from the last byte of the request to the answer.\n"
      "# TYPE apiserver_request_duration_seconds_sum counter\n";
  for (const auto& [key, series] : series_) {
    const auto& [verb, group, resource, code] = key;
    const std::string labels = "{verb=\"" + verb + "\",group=\"" + group + "\",resource=\"" + resource +
                               "\",code=\"" + std::to_string(code) + "\"} ";
    totals += "apiserver_request_total" + labels + std::to_string(series.count) + "\n";
    seconds += "apiserver_request_duration_seconds_sum" + labels + std::to_string(series.seconds) + "\n";
  }
  return totals + seconds;
}

}  // namespace orchestra::apiserver
