#pragma once
// Counters of requests in the names that dashboards for Kubernetes know.
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <tuple>

namespace orchestra::apiserver {

class RequestMetrics {
 public:
  static constexpr std::size_t kSeriesMax = 5000;  ///< further combinations are not counted apart
  void count(const std::string& verb, const std::string& group, const std::string& resource, int code,
             std::int64_t nanoseconds);
  std::string text() const;

 private:
  struct Series {
    std::uint64_t count = 0;
    double seconds = 0;
  };
  mutable std::mutex mutex_;
  std::map<std::tuple<std::string, std::string, std::string, int>, Series> series_;
};

}  // namespace orchestra::apiserver
