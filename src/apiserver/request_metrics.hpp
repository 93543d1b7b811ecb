#pragma once
// What the API server counts, in the names that dashboards for Kubernetes know.
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "apiserver/request_path.hpp"
#include "orchestra/metrics.hpp"

namespace orchestra::apiserver {

/// Any thread.
class RequestMetrics {
 public:
  /// Families of the registry that are taken by something else are not counted.
  explicit RequestMetrics(std::shared_ptr<Metrics> registry);
  /// `known`: the resource and its subresource are served; names of others are not kept, they come from
  /// outside.
  void count(const RequestInfo& info, bool known, int code, std::int64_t nanoseconds);
  Metrics& registry() const { return *registry_; }

 private:
  struct Series {
    Counter total;
    Histogram seconds;
  };
  Series* find(const RequestInfo& info, bool known, int code);
  std::shared_ptr<Metrics> registry_;
  std::unique_ptr<MetricFamily<Counter>> totals_;
  std::unique_ptr<MetricFamily<Histogram>> seconds_;
  std::mutex mutex_;
  std::unordered_map<std::string, Series> series_;  ///< handles by what names them
};

}  // namespace orchestra::apiserver
