// The registry: families with their series, collectors, and the page made of both.
#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "base/assert.hpp"
#include "metrics/exposition.hpp"
#include "orchestra/metrics.hpp"

namespace orchestra {

using metrics::bound_text;
using metrics::label_text;
using metrics::write_family;
using metrics::write_sample;

struct Histogram::Cells {
  explicit Cells(const std::vector<double>& upper) : bounds(upper), counts(upper.size() + 1) {}
  const std::vector<double> bounds;
  std::vector<std::atomic<std::uint64_t>> counts;  ///< of values in (bound before, bound]; the last is +Inf
  std::atomic<double> sum{0};
};

namespace {

constexpr std::size_t kSeriesMax = 10'000, kPiece = 64 << 10;
constexpr const char* kOverflow = "overflow=\"true\"";

void add_to(std::atomic<double>& cell, double amount) {
  double now = cell.load(std::memory_order_relaxed);
  while (!cell.compare_exchange_weak(now, now + amount, std::memory_order_relaxed)) {
  }
}

using CounterCell = std::atomic<std::uint64_t>;
using GaugeCell = std::atomic<double>;

struct SeriesBase {
  explicit SeriesBase(std::string text) : labels(std::move(text)) {}
  virtual ~SeriesBase() = default;
  virtual void write(std::string& out, MetricsFormat format, const std::string& name) const = 0;
  const std::string labels;
};
using SeriesPtr = std::shared_ptr<const SeriesBase>;

template <typename Cell>
struct Series : SeriesBase {
  Series(std::string text, std::shared_ptr<Cell> of) : SeriesBase(std::move(text)), cell(std::move(of)) {}
  void write(std::string& out, MetricsFormat format, const std::string& name) const override;
  std::shared_ptr<Cell> cell;
};
template <>
void Series<CounterCell>::write(std::string& out, MetricsFormat, const std::string& name) const {
  write_sample(out, name, "", labels, "", cell->load(std::memory_order_relaxed));
}
template <>
void Series<GaugeCell>::write(std::string& out, MetricsFormat format, const std::string& name) const {
  write_sample(out, format, name, "", labels, "", cell->load(std::memory_order_relaxed));
}
// _count is the sum of what was read for the buckets, so +Inf equals it whoever counts meanwhile.
template <>
void Series<Histogram::Cells>::write(std::string& out, MetricsFormat format, const std::string& name) const {
  std::uint64_t below = 0;
  for (std::size_t at = 0; at < cell->counts.size(); ++at) {
    below += cell->counts[at].load(std::memory_order_relaxed);
    const double bound = at < cell->bounds.size() ? cell->bounds[at] : INFINITY;
    write_sample(out, name, "_bucket", labels, bound_text(format, bound), below);
  }
  write_sample(out, format, name, "_sum", labels, "", cell->sum.load(std::memory_order_relaxed));
  write_sample(out, name, "_count", labels, "", below);
}

// What is fixed about a family.
struct Shape {
  MetricKind kind = MetricKind::counter;
  std::string name, help;
  std::vector<std::string> label_names;
  std::vector<double> bounds;
  bool same(const Shape& other) const {
    return kind == other.kind && label_names == other.label_names && bounds == other.bounds;
  }
};

struct FamilyBase {
  explicit FamilyBase(Shape of) : shape(std::move(of)) {}
  virtual ~FamilyBase() = default;
  virtual SeriesPtr make(std::string labels) const = 0;

  SeriesPtr find_or_make(const std::vector<std::string>& values) {
    std::string labels = text_of(values);
    std::lock_guard lock(mutex);
    if (const auto found = series.find(labels); found != series.end()) return found->second;
    if (series.size() >= kSeriesMax && labels != kOverflow) {
      ++overflows;
      labels = kOverflow;
      if (const auto found = series.find(labels); found != series.end()) return found->second;
    }
    return series[labels] = make(labels);
  }
  void remove(const std::vector<std::string>& values) {
    const std::string labels = text_of(values);
    std::lock_guard lock(mutex);
    series.erase(labels);
  }
  std::string text_of(const std::vector<std::string>& values) const {
    ORC_ASSERT(values.size() == shape.label_names.size());
    MetricLabels labels;
    for (std::size_t at = 0; at < values.size(); ++at) labels.emplace_back(shape.label_names[at], values[at]);
    return label_text(labels);
  }

  const Shape shape;
  std::mutex mutex;
  std::map<std::string, SeriesPtr> series;
  std::uint64_t overflows = 0;  ///< lookups beyond the limit
};

template <typename Cell>
struct Family : FamilyBase {
  using FamilyBase::FamilyBase;
  SeriesPtr make(std::string labels) const override {
    if constexpr (std::is_same_v<Cell, Histogram::Cells>) {
      return std::make_shared<Series<Cell>>(std::move(labels), std::make_shared<Cell>(shape.bounds));
    } else {
      return std::make_shared<Series<Cell>>(std::move(labels), std::make_shared<Cell>(0));
    }
  }
  std::shared_ptr<Cell> cell(const std::vector<std::string>& values) {
    return static_cast<const Series<Cell>&>(*find_or_make(values)).cell;
  }
};

// One line that a collector told.
struct Told {
  std::string labels;
  double value = 0;
  std::optional<std::int64_t> at_ms;
};
struct PageFamily {
  MetricKind kind = MetricKind::gauge;
  std::string help;
  std::vector<SeriesPtr> series;  ///< by labels
  std::vector<Told> told;
  std::set<std::string, std::less<>> told_labels;
};

// Everything of one reading, by name.
struct Page : MetricSink {
  void sample(MetricKind kind, std::string_view name, std::string_view help, const MetricLabels& labels,
              double value, std::optional<std::int64_t> at_ms) override {
    const bool counter_name = name.ends_with("_total") && name.size() > 6;
    if (!metrics::is_metric_name(name) || kind == MetricKind::histogram ||
        (kind == MetricKind::counter && !counter_name) ||
        std::any_of(labels.begin(), labels.end(),
                    [](const auto& label) { return !metrics::is_label_name(label.first); })) {
      ++rejected;
      return;
    }
    auto [at, fresh] = families.try_emplace(std::string(name));
    PageFamily& family = at->second;
    if (fresh) {
      family.kind = kind;
      family.help = help;
    }
    std::string text = label_text(labels);
    const auto own =
        std::lower_bound(family.series.begin(), family.series.end(), text,
                         [](const SeriesPtr& one, const std::string& of) { return one->labels < of; });
    if (family.kind != kind || (own != family.series.end() && (*own)->labels == text) ||
        !family.told_labels.insert(text).second) {
      ++rejected;
      return;
    }
    family.told.push_back({std::move(text), value, at_ms});
  }

  std::map<std::string, PageFamily> families;
  std::uint64_t rejected = 0;
};

struct Collector {
  std::mutex mutex;
  std::function<void(MetricSink&)> tell;  ///< empty: its owner is gone
};

}  // namespace

struct Metrics::Impl {
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<FamilyBase>> families;
  std::vector<std::weak_ptr<Collector>> collectors;
  std::atomic<std::uint64_t> rejected{0};

  template <typename Cell>
  Result<std::shared_ptr<Family<Cell>>> family(Shape shape);
  std::shared_ptr<Page> page();
};

namespace {

Result<void> check(const Shape& shape) {
  const auto refuse = [&](const std::string& why) {
    return Error(Error::invalid, "metrics", "metric \"" + shape.name + "\": " + why);
  };
  if (!metrics::is_metric_name(shape.name)) {
    return refuse("a name is letters, digits, '_' and ':', and begins with no digit");
  }
  if (shape.kind == MetricKind::counter && (!shape.name.ends_with("_total") || shape.name.size() == 6)) {
    return refuse("the name of a counter ends in _total");
  }
  std::set<std::string> seen;
  for (const std::string& label : shape.label_names) {
    if (!metrics::is_label_name(label)) {
      return refuse("label \"" + label + "\": letters, digits and '_', no digit first, not \"__\" first");
    }
    if (shape.kind == MetricKind::histogram && label == "le")
      return refuse("label le is the histogram's own");
    if (!seen.insert(label).second) return refuse("label \"" + label + "\" is there twice");
  }
  for (std::size_t at = 0; at < shape.bounds.size(); ++at) {
    if (!std::isfinite(shape.bounds[at]) || (at > 0 && shape.bounds[at] <= shape.bounds[at - 1])) {
      return refuse("bounds are finite and rise; bound " + std::to_string(at) + " does not");
    }
  }
  return {};
}

}  // namespace

template <typename Cell>
Result<std::shared_ptr<Family<Cell>>> Metrics::Impl::family(Shape shape) {
  if (auto fine = check(shape); !fine) return fine.error();
  std::lock_guard lock(mutex);
  auto& slot = families[shape.name];
  if (!slot) {
    slot = std::make_shared<Family<Cell>>(std::move(shape));
  } else if (!slot->shape.same(shape)) {
    return Error(Error::conflict, "metrics",
                 "metric \"" + shape.name + "\" is registered with another kind, other labels or bounds");
  }
  return std::static_pointer_cast<Family<Cell>>(slot);
}

// The collectors run without the registry's lock: one may take locks of its own.
std::shared_ptr<Page> Metrics::Impl::page() {
  auto page = std::make_shared<Page>();
  std::vector<std::shared_ptr<Collector>> asked;
  {
    std::lock_guard lock(mutex);
    std::erase_if(collectors, [](const auto& one) { return one.expired(); });
    for (const auto& one : collectors) {
      if (auto alive = one.lock()) asked.push_back(std::move(alive));
    }
    for (const auto& [name, family] : families) {
      PageFamily& out = page->families[name];
      out.kind = family->shape.kind;
      out.help = family->shape.help;
      std::lock_guard of_family(family->mutex);
      for (const auto& [labels, series] : family->series) out.series.push_back(series);
      if (family->overflows > 0) {
        page->sample(MetricKind::counter, "orchestra_metrics_overflow_total",
                     "Lookups of series beyond the limit of a family.", {{"family", name}},
                     static_cast<double>(family->overflows), {});
      }
    }
  }
  for (const auto& one : asked) {
    std::lock_guard lock(one->mutex);
    if (one->tell) one->tell(*page);
  }
  const std::uint64_t total = rejected += page->rejected;
  if (total > 0) {
    page->sample(MetricKind::counter, "orchestra_metrics_rejected_total",
                 "Samples of collectors that no page can hold: bad names, another kind, told twice.", {},
                 static_cast<double>(total), {});
  }
  std::erase_if(page->families,
                [](const auto& one) { return one.second.series.empty() && one.second.told.empty(); });
  return page;
}

void Gauge::add(double amount) const { add_to(*cell_, amount); }

void Histogram::observe(double value, std::uint64_t times) const {
  const auto& bounds = cells_->bounds;
  // NaN is above every bound.
  const auto at = std::isnan(value) ? bounds.end() : std::lower_bound(bounds.begin(), bounds.end(), value);
  cells_->counts[static_cast<std::size_t>(at - bounds.begin())].fetch_add(times, std::memory_order_relaxed);
  add_to(cells_->sum, value * static_cast<double>(times));
}
std::uint64_t Histogram::count() const {
  std::uint64_t all = 0;
  for (const auto& one : cells_->counts) all += one.load(std::memory_order_relaxed);
  return all;
}
double Histogram::sum() const { return cells_->sum.load(std::memory_order_relaxed); }

Metrics::Metrics() : impl_(std::make_shared<Impl>()) {}
Metrics::~Metrics() = default;
std::shared_ptr<Metrics> Metrics::create() { return std::shared_ptr<Metrics>(new Metrics()); }

Result<MetricFamily<Counter>> Metrics::counter(const std::string& name, const std::string& help,
                                               const std::vector<std::string>& label_names) {
  auto family = impl_->family<CounterCell>({MetricKind::counter, name, help, label_names, {}});
  if (!family) return family.error();
  return MetricFamily<Counter>([at = *family](const auto& values) { return Counter(at->cell(values)); },
                               [at = *family](const auto& values) { at->remove(values); });
}

Result<MetricFamily<Gauge>> Metrics::gauge(const std::string& name, const std::string& help,
                                           const std::vector<std::string>& label_names) {
  auto family = impl_->family<GaugeCell>({MetricKind::gauge, name, help, label_names, {}});
  if (!family) return family.error();
  return MetricFamily<Gauge>([at = *family](const auto& values) { return Gauge(at->cell(values)); },
                             [at = *family](const auto& values) { at->remove(values); });
}

Result<MetricFamily<Histogram>> Metrics::histogram(const std::string& name, const std::string& help,
                                                   const std::vector<double>& bounds,
                                                   const std::vector<std::string>& label_names) {
  auto family = impl_->family<Histogram::Cells>({MetricKind::histogram, name, help, label_names, bounds});
  if (!family) return family.error();
  return MetricFamily<Histogram>([at = *family](const auto& values) { return Histogram(at->cell(values)); },
                                 [at = *family](const auto& values) { at->remove(values); });
}

std::shared_ptr<void> Metrics::collect(std::function<void(MetricSink&)> collector) {
  auto held = std::make_shared<Collector>();
  held->tell = std::move(collector);
  {
    std::lock_guard lock(impl_->mutex);
    impl_->collectors.push_back(held);
  }
  // A reading may hold the collector itself: what ends the calls is this.
  return std::shared_ptr<void>(held.get(), [held](void*) mutable {
    {
      std::lock_guard lock(held->mutex);
      held->tell = nullptr;
    }
    held.reset();
  });
}

std::function<std::optional<std::string>()> Metrics::pieces(MetricsFormat format) const {
  struct Reading {
    std::shared_ptr<Page> page;
    std::map<std::string, PageFamily>::const_iterator at;
    std::size_t series = 0, told = 0;  // of the family at `at`
    bool headed = false;               // it has its HELP and TYPE; the piece may have ended right behind them
    bool ended = false;
  };
  auto reading = std::make_shared<Reading>();
  reading->page = impl_->page();
  reading->at = reading->page->families.begin();
  return [reading, format]() -> std::optional<std::string> {
    if (reading->ended) return std::nullopt;
    std::string out;
    for (; reading->at != reading->page->families.end(); ++reading->at) {
      const auto& [name, family] = *reading->at;
      if (!std::exchange(reading->headed, true)) write_family(out, format, family.kind, name, family.help);
      while (reading->series < family.series.size() && out.size() < kPiece) {
        family.series[reading->series++]->write(out, format, name);
      }
      while (reading->told < family.told.size() && out.size() < kPiece) {
        const Told& one = family.told[reading->told++];
        write_sample(out, format, name, "", one.labels, "", one.value, one.at_ms);
      }
      if (reading->series + reading->told < family.series.size() + family.told.size()) return out;
      reading->series = reading->told = 0;
      reading->headed = false;
    }
    reading->ended = true;
    if (format == MetricsFormat::open_metrics) out += "# EOF\n";
    return out;
  };
}

std::string Metrics::text(MetricsFormat format) const {
  std::string out;
  const auto more = pieces(format);
  while (auto piece = more()) out += *piece;
  return out;
}

}  // namespace orchestra
