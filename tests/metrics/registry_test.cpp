// The metric registry and its two page formats.
#include <cmath>
#include <thread>

#include "metrics/exposition.hpp"
#include "orchestra/metrics.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;

TEST_CASE("a page of text: HELP and TYPE once, samples of a family together, numbers shortest") {
  const auto metrics = Metrics::create();
  const auto orders =
      metrics->counter("shop_orders_total", "Orders\ntaken \\ paid.", {"method", "shop"}).value();
  orders.with({"card", "a\"b\\c\nd"}).add(3);
  orders.with({"cash", ""}).add();
  metrics->gauge("shop_open", "Open shops \"today\".").value().with({}).set(0.1);
  const auto waits = metrics->histogram("shop_wait_seconds", "Waiting.", {0.5, 1, 2.5}).value().with({});
  for (const double one : {0.5, 0.7, 1.0, 9.0, 2.0}) waits.observe(one);
  CHECK(metrics->text() ==
        "# HELP shop_open Open shops \"today\".\n# TYPE shop_open gauge\nshop_open 0.1\n"
        "# HELP shop_orders_total Orders\\ntaken \\\\ paid.\n# TYPE shop_orders_total counter\n"
        "shop_orders_total{method=\"card\",shop=\"a\\\"b\\\\c\\nd\"} 3\n"
        "shop_orders_total{method=\"cash\",shop=\"\"} 1\n"
        "# HELP shop_wait_seconds Waiting.\n# TYPE shop_wait_seconds histogram\n"
        "shop_wait_seconds_bucket{le=\"0.5\"} 1\nshop_wait_seconds_bucket{le=\"1\"} 3\n"
        "shop_wait_seconds_bucket{le=\"2.5\"} 4\nshop_wait_seconds_bucket{le=\"+Inf\"} 5\n"
        "shop_wait_seconds_sum 13.2\nshop_wait_seconds_count 5\n");
}

TEST_CASE("OpenMetrics: _total only on samples, bounds as floats, seconds, one end") {
  const auto metrics = Metrics::create();
  metrics->counter("shop_orders_total", "Orders \"paid\".").value().with({}).add(2);
  metrics->histogram("shop_wait_seconds", "Waiting.", {1}, {"kind"}).value().with({"x"}).observe(1);
  const auto held = metrics->collect([](MetricSink& sink) {
    sink.sample(MetricKind::gauge, "shop_heat", "Heat.", {}, 21.5, 1'700'000'000'250);
  });
  CHECK(metrics->text(MetricsFormat::open_metrics) ==
        "# HELP shop_heat Heat.\n# TYPE shop_heat gauge\nshop_heat 21.5 1700000000.25\n"
        "# HELP shop_orders Orders \\\"paid\\\".\n# TYPE shop_orders counter\nshop_orders_total 2\n"
        "# HELP shop_wait_seconds Waiting.\n# TYPE shop_wait_seconds histogram\n"
        "shop_wait_seconds_bucket{kind=\"x\",le=\"1.0\"} 1\nshop_wait_seconds_bucket{kind=\"x\",le=\"+Inf\"} "
        "1\n"
        "shop_wait_seconds_sum{kind=\"x\"} 1\nshop_wait_seconds_count{kind=\"x\"} 1\n# EOF\n");
  CHECK(metrics->text().find("shop_heat 21.5 1700000000250\n") != std::string::npos);
}

TEST_CASE("the format follows the q values of Accept") {
  struct Row {
    const char* accept;
    MetricsFormat format;
  };
  const auto text = MetricsFormat::text, open = MetricsFormat::open_metrics;
  for (const Row& row : std::vector<Row>{
           {"", text},
           {"*/*", text},
           {"application/json", text},
           {"application/openmetrics-text", open},
           {"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            open},
           {"application/openmetrics-text; version=0.0.1, text/plain; q=0.5", text},
           {"application/openmetrics-text;q=0.5,text/plain", text},
           {"application/openmetrics-text;q=0.5,*/*;q=0.4", open},
           {"text/plain;q=0,*/*;q=1,application/openmetrics-text;q=0.3", open},
           {"APPLICATION/OpenMetrics-Text ; Version=1 ;q=0.9 , text/*;q=0.95", text},
           {"application/openmetrics-text;q=broken", text},
           {",,;;q=,=", text}}) {
    CAPTURE(row.accept);
    CHECK(metrics_format(row.accept) == row.format);
  }
}

TEST_CASE("numbers that are none, and label values that are no text") {
  const auto metrics = Metrics::create();
  const auto values = metrics->gauge("v", "", {"of"}).value();
  values.with({"nan"}).set(NAN);
  values.with({"up"}).set(INFINITY);
  values.with({"down"}).set(-INFINITY);
  values.with({"big"}).set(1e300);
  values.with({"\xff\xc3\xa4\xed\xa0\x80|\xc0\x80"}).set(0);
  const std::string page = metrics->text();
  for (const char* line :
       {"v{of=\"nan\"} NaN\n", "v{of=\"up\"} +Inf\n", "v{of=\"down\"} -Inf\n", "v{of=\"big\"} 1e+300\n"}) {
    CHECK(page.find(line) != std::string::npos);
  }
  const std::string bad = "\xef\xbf\xbd";
  CHECK(page.find("v{of=\"" + bad + "\xc3\xa4" + bad + bad + bad + "|" + bad + bad + "\"} 0\n") !=
        std::string::npos);
  CHECK(metrics::label_text({{"a", std::string(1023, 'x') + "\xc3\xa4"}}) ==
        "a=\"" + std::string(1023, 'x') + "\"");
}

TEST_CASE("names that Prometheus refuses, and families that do not fit") {
  const auto metrics = Metrics::create();
  const auto refused = [](const auto& result, const std::string& says) {
    REQUIRE(!result);
    CAPTURE(result.error().message());
    CHECK(result.error().message().find(says) != std::string::npos);
  };
  refused(metrics->counter("orders", ""), "ends in _total");
  refused(metrics->counter("_total", ""), "ends in _total");
  refused(metrics->gauge("9lives", ""), "begins with no digit");
  refused(metrics->gauge("a-b", ""), "letters");
  refused(metrics->gauge("a", "", {"__x"}), "__x");
  refused(metrics->gauge("a", "", {"x", "x"}), "twice");
  refused(metrics->histogram("h", "", {1, 1}), "bound 1");
  refused(metrics->histogram("h", "", {NAN}), "bound 0");
  refused(metrics->histogram("h", "", {1}, {"le"}), "le");
  REQUIRE(metrics->gauge("a", "", {"x"}));
  CHECK(metrics->counter("a_total", ""));
  refused(metrics->gauge("a", "", {"y"}), "another kind");
  CHECK(metrics->gauge("a", "other words are no conflict", {"x"}));
}

TEST_CASE("the same family from two parts is one, and a handle outlives its registry") {
  auto metrics = Metrics::create();
  const Counter one = metrics->counter("n_total", "").value().with({});
  const Counter same = metrics->counter("n_total", "").value().with({});
  one.add(2);
  CHECK(same.value() == 2);
  CHECK(metrics->text().find("n_total 2\n") != std::string::npos);
  metrics.reset();
  same.add();
  CHECK(one.value() == 3);
}

TEST_CASE("beyond 10,000 series a family counts into one, and says so") {
  const auto metrics = Metrics::create();
  const auto family = metrics->counter("n_total", "", {"of"}).value();
  for (int at = 0; at < 10'003; ++at) family.with({std::to_string(at)}).add();
  const std::string page = metrics->text();
  CHECK(page.find("n_total{of=\"9999\"} 1\n") != std::string::npos);
  CHECK(page.find("n_total{of=\"10000\"}") == std::string::npos);
  CHECK(page.find("n_total{overflow=\"true\"} 3\n") != std::string::npos);
  CHECK(page.find("orchestra_metrics_overflow_total{family=\"n_total\"} 3\n") != std::string::npos);
  family.remove({"9999"});
  CHECK(metrics->text().find("n_total{of=\"9999\"}") == std::string::npos);
}

TEST_CASE("collectors: merged into families, bad and double samples dropped, never called after their end") {
  const auto metrics = Metrics::create();
  metrics->gauge("v", "Values.", {"of"}).value().with({"own"}).set(1);
  int calls = 0;
  auto held = metrics->collect([&calls](MetricSink& sink) {
    ++calls;
    sink.sample(MetricKind::gauge, "v", "", {{"of", "told"}}, 2);
    sink.sample(MetricKind::gauge, "v", "", {{"of", "told"}}, 3);  // twice
    sink.sample(MetricKind::gauge, "v", "", {{"of", "own"}}, 3);   // the family's own
    sink.sample(MetricKind::counter, "v_total", "", {}, 4);
    sink.sample(MetricKind::gauge, "v_total", "", {}, 4);    // another kind
    sink.sample(MetricKind::counter, "v_count", "", {}, 4);  // no _total
    sink.sample(MetricKind::gauge, "bad name", "", {}, 4);
    sink.sample(MetricKind::gauge, "bad", "", {{"la-bel", "x"}}, 4);
  });
  CHECK(metrics->text() ==
        "# HELP orchestra_metrics_rejected_total Samples of collectors that no page can hold: bad names, "
        "another "
        "kind, told twice.\n# TYPE orchestra_metrics_rejected_total "
        "counter\norchestra_metrics_rejected_total 6\n"
        "# HELP v Values.\n# TYPE v gauge\nv{of=\"own\"} 1\nv{of=\"told\"} 2\n"
        "# HELP v_total \n# TYPE v_total counter\nv_total 4\n");
  held.reset();
  CHECK(metrics->text().find("of=\"told\"") == std::string::npos);
  CHECK(calls == 1);
}

TEST_CASE("a long page comes in pieces of about 64 KiB, of the series that were there at its beginning") {
  const auto metrics = Metrics::create();
  const auto family = metrics->gauge("v", "", {"of"}).value();
  for (int at = 0; at < 9'000; ++at) family.with({std::string(40, 'x') + std::to_string(at)}).set(at);
  const std::string whole = metrics->text();
  const auto more = metrics->pieces(MetricsFormat::text);
  family.with({"late"}).set(1);
  std::string joined;
  int pieces = 0;
  while (const auto piece = more()) {
    CHECK(piece->size() <= (64 << 10) + 200);
    joined += *piece;
    ++pieces;
  }
  CHECK(joined == whole);
  CHECK(pieces > 5);
}

TEST_CASE("wherever a piece ends, each family has one head") {
  // Families of one short series: their heads fill the piece, each number of them puts its end elsewhere.
  for (int help = 0; help < 120; ++help) {
    const auto metrics = Metrics::create();
    for (int at = 0; at < 900; ++at) {
      metrics->gauge("v" + std::to_string(at), std::string(60 + help, 'h')).value().with({}).set(1);
    }
    const std::string page = metrics->text();
    int heads = 0;
    for (auto found = page.find("# TYPE"); found != page.npos; found = page.find("# TYPE", found + 1))
      ++heads;
    CHECK(heads == 900);
  }
}

TEST_CASE("threads count beside each other and beside readers") {
  const auto metrics = Metrics::create();
  const auto counter = metrics->counter("n_total", "", {"of"}).value();
  const auto waits = metrics->histogram("w", "", {1, 2}).value().with({});
  const auto level = metrics->gauge("g", "").value().with({});
  std::vector<std::thread> threads;
  for (int at = 0; at < 4; ++at) {
    threads.emplace_back([&, at] {
      const Counter own = counter.with({std::to_string(at % 2)});
      for (int step = 0; step < 10'000; ++step) {
        own.add();
        waits.observe(1.5);
        level.add(1);
      }
    });
  }
  for (int at = 0; at < 20; ++at) CHECK(metrics->text().find("w_count") != std::string::npos);
  for (auto& thread : threads) thread.join();
  CHECK(counter.with({"0"}).value() + counter.with({"1"}).value() == 40'000);
  CHECK(waits.count() == 40'000);
  CHECK(waits.sum() == 60'000);
  CHECK(level.value() == 40'000);
}

TEST_CASE("process_* of this program") {
  const auto metrics = Metrics::create();
  const auto held = metrics->collect(collect_process);
  const std::string page = metrics->text();
  for (const char* name :
       {"process_cpu_seconds_total ", "process_start_time_seconds ", "process_virtual_memory_bytes ",
        "process_resident_memory_bytes ", "process_open_fds ", "process_max_fds "}) {
    CHECK_MESSAGE(page.find(std::string("\n") + name) != std::string::npos, name);
  }
}
