#pragma once
// Metrics: counters, gauges and histograms with labels, and the page that Prometheus reads.
//
//   auto metrics = orchestra::Metrics::create();
//   auto orders = metrics->counter("shop_orders_total", "Orders taken.", {"method"}).value();
//   auto card = orders.with({"card"});           // once
//   card.add();                                  // often: one relaxed atomic addition
//   std::string page = metrics->text(orchestra::metrics_format(accept_header));
//
// Needs no engine; several registries in one process know nothing of each other. Handles keep their series
// alive and may outlive the registry. Rules: Prometheus text format 0.0.4, OpenMetrics 1.0. Any thread. Since
// 0.2.
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "orchestra/result.hpp"

namespace orchestra {

enum class MetricKind : std::uint8_t { counter, gauge, histogram };
using MetricLabels = std::vector<std::pair<std::string, std::string>>;

/// Only grows.
class ORC_API Counter {
 public:
  void add(std::uint64_t amount = 1) const { cell_->fetch_add(amount, std::memory_order_relaxed); }
  std::uint64_t value() const { return cell_->load(std::memory_order_relaxed); }

 private:
  friend class Metrics;
  explicit Counter(std::shared_ptr<std::atomic<std::uint64_t>> cell) : cell_(std::move(cell)) {}
  std::shared_ptr<std::atomic<std::uint64_t>> cell_;
};

class ORC_API Gauge {
 public:
  void set(double value) const { cell_->store(value, std::memory_order_relaxed); }
  void add(double amount) const;
  double value() const { return cell_->load(std::memory_order_relaxed); }

 private:
  friend class Metrics;
  explicit Gauge(std::shared_ptr<std::atomic<double>> cell) : cell_(std::move(cell)) {}
  std::shared_ptr<std::atomic<double>> cell_;
};

/// How often values fell at or below each of the family's bounds.
class ORC_API Histogram {
 public:
  void observe(double value, std::uint64_t times = 1) const;
  std::uint64_t count() const;
  double sum() const;
  struct Cells;

 private:
  friend class Metrics;
  explicit Histogram(std::shared_ptr<Cells> cells) : cells_(std::move(cells)) {}
  std::shared_ptr<Cells> cells_;
};

/// One name with the label names given at its making; with() resolves a series.
template <typename Handle>
class MetricFamily {
 public:
  /// The series of these label values, in the order of the label names; made when it is asked for first.
  /// Values are cut at 1 KiB. A family holds 10,000 series: what is asked for beyond is one series,
  /// {overflow="true"}. As many values as names: else an assertion. Costs a lookup under a lock: keep the
  /// handle where it matters.
  Handle with(const std::vector<std::string>& values) const { return resolve_(values); }
  /// The object of this series is gone: it leaves the page, and handles to it count into nothing.
  void remove(const std::vector<std::string>& values) const { remove_(values); }

 private:
  friend class Metrics;
  using Values = std::vector<std::string>;
  MetricFamily(std::function<Handle(const Values&)> resolve, std::function<void(const Values&)> remove)
      : resolve_(std::move(resolve)), remove_(std::move(remove)) {}
  std::function<Handle(const Values&)> resolve_;
  std::function<void(const Values&)> remove_;
};

/// What a collector tells at each reading.
class ORC_API MetricSink {
 public:
  virtual ~MetricSink() = default;
  /// `kind` is counter or gauge. Names and labels as for families; a sample whose name is taken by another
  /// kind, or whose series was told before in this reading, is dropped and counted
  /// (orchestra_metrics_rejected_total). `at_ms`: milliseconds since 1970 where the value is not of now.
  virtual void sample(MetricKind kind, std::string_view name, std::string_view help,
                      const MetricLabels& labels, double value,
                      std::optional<std::int64_t> at_ms = std::nullopt) = 0;
};

enum class MetricsFormat : std::uint8_t { text, open_metrics };
/// What to answer to an Accept header: OpenMetrics only where it is named with a higher q than text.
ORC_API MetricsFormat metrics_format(std::string_view accept);
ORC_API const char* metrics_content_type(MetricsFormat format);

class ORC_API Metrics {
 public:
  static std::shared_ptr<Metrics> create();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  /// Asking again with the same kind, labels and bounds gives the same family; with others it is `conflict`.
  /// `invalid` names a name or label that Prometheus would refuse; counters end in `_total`.
  Result<MetricFamily<Counter>> counter(const std::string& name, const std::string& help,
                                        const std::vector<std::string>& label_names = {});
  Result<MetricFamily<Gauge>> gauge(const std::string& name, const std::string& help,
                                    const std::vector<std::string>& label_names = {});
  /// `bounds`: upper bounds, rising, without +Inf.
  Result<MetricFamily<Histogram>> histogram(const std::string& name, const std::string& help,
                                            const std::vector<double>& bounds,
                                            const std::vector<std::string>& label_names = {});

  /// Asked for values at each reading, on the reader's thread; must not block and must not read this
  /// registry. Until the answer is destroyed: no call begins or runs after that.
  [[nodiscard]] std::shared_ptr<void> collect(std::function<void(MetricSink&)> collector);

  /// The page, in pieces of about 64 KiB until nullopt. Which series there are is pinned by this call.
  std::function<std::optional<std::string>()> pieces(MetricsFormat format) const;
  std::string text(MetricsFormat format = MetricsFormat::text) const;

 private:
  Metrics();
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

/// process_* of this program, by Prometheus' names: CPU, memory, file descriptors, start time.
ORC_API void collect_process(MetricSink& sink);
/// orchestra_store_* of StateStore::status(): revision, keys, bytes, watchers, alarms.
ORC_API void collect_store(MetricSink& sink, const struct StoreStatus& status);

}  // namespace orchestra
