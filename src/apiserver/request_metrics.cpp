// See request_metrics.hpp. Names, labels and buckets: kubernetes apiserver/pkg/endpoints/metrics.
#include "apiserver/request_metrics.hpp"

#include <algorithm>
#include <iterator>

namespace orchestra::apiserver {
namespace {

constexpr std::size_t kSeriesMax = 10'000;  ///< handles kept; a family has no more series either

const std::vector<double> kBuckets = {0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1,  1.25, 1.5, 2,
                                      3,     4,     5,    6,   8,   10,  15,  20,  30, 45,   60};

// Methods come from outside, too: a series each for what somebody makes up would fill the family.
bool is_known_verb(std::string_view verb) {
  constexpr std::string_view kVerbs[] = {"get",     "list",  "watch",  "create",
                                         "update",  "patch", "delete", "deletecollection",
                                         "options", "post",  "put"};
  return std::find(std::begin(kVerbs), std::end(kVerbs), verb) != std::end(kVerbs);
}

std::string verb_of(const RequestInfo& info) {
  if (!is_known_verb(info.verb)) return "other";
  if (info.verb == "create") return "POST";
  if (info.verb == "update") return "PUT";
  std::string out = info.verb;
  for (char& c : out) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return out;
}

std::string scope_of(const RequestInfo& info) {
  if (!info.name.empty() || info.verb == "create") return "resource";
  if (!info.ns.empty()) return "namespace";
  return info.is_resource ? "cluster" : "";
}

}  // namespace

RequestMetrics::RequestMetrics(std::shared_ptr<Metrics> registry) : registry_(std::move(registry)) {
  std::vector<std::string> labels = {"verb", "group", "version", "resource", "subresource", "scope"};
  auto seconds =
      registry_->histogram("apiserver_request_duration_seconds",
                           "Time from the end of the request's headers to its answer.", kBuckets, labels);
  labels.emplace_back("code");
  auto totals =
      registry_->counter("apiserver_request_total", "Requests by verb, resource and HTTP code.", labels);
  if (!seconds || !totals) return;
  seconds_ = std::make_unique<MetricFamily<Histogram>>(std::move(*seconds));
  totals_ = std::make_unique<MetricFamily<Counter>>(std::move(*totals));
}

RequestMetrics::Series* RequestMetrics::find(const RequestInfo& info, bool known, int code) {
  std::vector<std::string> values;
  if (info.is_resource && known) {
    values = {verb_of(info), info.group, info.version, info.resource, info.subresource, scope_of(info)};
  } else if (info.is_resource) {
    values = {verb_of(info), "", "", "other", "", ""};
  } else {
    values = {
        verb_of(info), "", "", "", code == 404 ? "other" : info.path.substr(0, info.path.find('/', 1)), ""};
  }
  std::string key = std::to_string(code);
  for (const std::string& value : values) key.append(1, '\0').append(value);
  if (const auto found = series_.find(key); found != series_.end()) return &found->second;
  if (series_.size() >= kSeriesMax) series_.clear();
  const Histogram seconds = seconds_->with(values);
  values.push_back(std::to_string(code));
  return &series_.emplace(std::move(key), Series{totals_->with(values), seconds}).first->second;
}

void RequestMetrics::count(const RequestInfo& info, bool known, int code, std::int64_t nanoseconds) {
  if (!totals_) return;
  std::lock_guard lock(mutex_);
  const Series* series = find(info, known, code);
  series->total.add();
  // A watch lasts as long as its client likes: no time of ours.
  if (info.verb != "watch") series->seconds.observe(static_cast<double>(nanoseconds) / 1e9);
}

}  // namespace orchestra::apiserver
