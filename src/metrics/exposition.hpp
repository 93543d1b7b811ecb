#pragma once
// How metrics are written: Prometheus text 0.0.4 and OpenMetrics 1.0. Pure.
#include <optional>
#include <string>
#include <string_view>

#include "orchestra/metrics.hpp"

namespace orchestra::metrics {

inline constexpr std::size_t kLabelValueMax = 1024;  ///< bytes

/// Letters, digits, _ and : with no digit first; labels know no ':' and begin not with two '_'.
bool is_metric_name(std::string_view name);
bool is_label_name(std::string_view name);

/// `a="x",b="y"`: values cut at kLabelValueMax, made UTF-8 and escaped. Same in both formats.
std::string label_text(const MetricLabels& labels);

/// HELP and TYPE of a family. `name` is as in text; OpenMetrics leaves `_total` away here.
void write_family(std::string& out, MetricsFormat format, MetricKind kind, std::string_view name,
                  std::string_view help);
/// `suffix` follows the name ("_bucket"), `more` the labels (`le="1"`).
void write_sample(std::string& out, MetricsFormat format, std::string_view name, std::string_view suffix,
                  std::string_view labels, std::string_view more, double value,
                  std::optional<std::int64_t> at_ms = std::nullopt);
void write_sample(std::string& out, std::string_view name, std::string_view suffix, std::string_view labels,
                  std::string_view more, std::uint64_t value);
/// `le="0.5"`; OpenMetrics writes 1 as 1.0.
std::string bound_text(MetricsFormat format, double bound);

}  // namespace orchestra::metrics
