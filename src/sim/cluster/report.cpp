// The report of a simulation as text, CSV, JSON and a picture (SVG). Pure: the same report gives the same
// bytes.
#include <algorithm>
#include <cmath>
#include <cstdarg>

#include "base/json.hpp"
#include "sim/cluster/book.hpp"

namespace orchestra {

using sim::clock_text;

namespace {

constexpr std::size_t kTimelineShown = 400;

std::string printed(const char* format, ...) __attribute__((format(printf, 1, 2)));
std::string printed(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return text;
}

long long ll(std::uint64_t number) { return static_cast<long long>(number); }

std::string escaped(const std::string& text) {
  std::string out;
  for (const char letter : text) {
    if (letter == '&') {
      out += "&amp;";
    } else if (letter == '<') {
      out += "&lt;";
    } else if (letter == '>') {
      out += "&gt;";
    } else if (static_cast<unsigned char>(letter) >= 0x20) {
      out += letter;
    }
  }
  return out;
}

struct Line {
  const char* name;
  const char* colour;
  double (*value)(const SimSample&, const SimSample* before);
};

constexpr double kWidth = 960, kPanel = 150, kLeft = 60, kRight = 20, kTop = 46, kGap = 46;

// A round number that is not below.
double ceiling(double value) {
  if (value <= 1) return 1;
  const double power = std::pow(10, std::floor(std::log10(value)));
  for (const double step : {1.0, 2.0, 2.5, 5.0, 10.0}) {
    if (step * power >= value) return step * power;
  }
  return 10 * power;
}

void panel(std::string& out, const SimReport& report, double top, const char* title,
           const std::vector<Line>& lines) {
  const auto& samples = report.samples;
  const double width = kWidth - kLeft - kRight;
  const double span = std::max(1.0, static_cast<double>(report.simulated.count()));
  double most = 0;
  for (const Line& line : lines) {
    for (std::size_t i = 0; i < samples.size(); ++i)
      most = std::max(most, line.value(samples[i], i == 0 ? nullptr : &samples[i - 1]));
  }
  most = ceiling(most);
  out += printed("<text x=\"%g\" y=\"%g\" class=\"title\">%s</text>\n", kLeft, top - 8, title);
  for (int i = 0; i <= 4; ++i) {
    const double y = top + kPanel - kPanel * i / 4;
    out += printed("<line x1=\"%g\" y1=\"%.1f\" x2=\"%g\" y2=\"%.1f\" class=\"grid\"/>\n", kLeft, y,
                   kWidth - kRight, y);
    out += printed("<text x=\"%g\" y=\"%.1f\" class=\"axis\" text-anchor=\"end\">%g</text>\n", kLeft - 6,
                   y + 4, most * i / 4);
  }
  double legend = kWidth - kRight;
  for (auto line = lines.rbegin(); line != lines.rend(); ++line) {
    legend -= 14 + 7.0 * static_cast<double>(std::string_view(line->name).size());
    out += printed("<text x=\"%.1f\" y=\"%g\" fill=\"%s\">%s</text>\n", legend, top - 8, line->colour,
                   line->name);
  }
  for (const Line& line : lines) {
    out += printed("<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\" points=\"", line.colour);
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const double x = kLeft + width * static_cast<double>(samples[i].at.count()) / span;
      const double y =
          top + kPanel - kPanel * line.value(samples[i], i == 0 ? nullptr : &samples[i - 1]) / most;
      out += printed("%.1f,%.1f ", x, y);
    }
    out += "\"/>\n";
  }
}

}  // namespace

std::string SimReport::text() const {
  std::string out =
      name + ": seed " + std::to_string(seed) + ", " + clock_text(simulated) + " of virtual time\n\n";
  const std::size_t shown = std::min(timeline.size(), kTimelineShown);
  for (std::size_t i = 0; i < shown; ++i) out += clock_text(timeline[i].at) + "  " + timeline[i].what + "\n";
  if (shown < timeline.size())
    out +=
        "... and " + std::to_string(timeline.size() - shown) + " more lines (all of them are in the JSON)\n";
  out += "\n";
  out += printed("pods: %lld created, %lld bound, %lld lost with their node, %lld containers crashed\n",
                 ll(pods_created), ll(pods_bound), ll(pods_lost), ll(containers_crashed));
  if (requests > 0) {
    out += printed("requests: %lld, %lld failed (%.4f %% answered)\n", ll(requests), ll(errors),
                   100.0 * (1 - static_cast<double>(errors) / static_cast<double>(requests)));
  }
  out +=
      printed("writes: %lld; hash of the run: %016llx\n", ll(writes), static_cast<unsigned long long>(hash));
  if (peers > 1)
    out += printed("control plane: %zu peers, %lld leaders of the store\n", peers, ll(elections));
  for (const std::string& line : met) out += "held      " + line + "\n";
  for (const std::string& line : failures) out += "FAILED    " + line + "\n";
  for (const std::string& line : violations) out += "VIOLATION " + line + "\n";
  out += passed() ? "passed\n" : "failed; the same seed shows it again\n";
  return out;
}

std::string SimReport::csv() const {
  std::string out =
      "seconds,nodes_ready,nodes_alive,pods,pending,ready,serving,ending,done,failed,queue,writes,requests,"
      "errors,"
      "latency_ms\n";
  for (const SimSample& each : samples) {
    out += printed("%.3f,%zu,%zu,%zu,%zu,%zu,%zu,%zu,%zu,%zu,%zu,%lld,%lld,%lld,%.3f\n",
                   static_cast<double>(each.at.count()) / 1e9, each.nodes_ready, each.nodes_alive, each.pods,
                   each.pending, each.ready, each.serving, each.ending, each.done, each.failed, each.queue,
                   ll(each.writes), ll(each.requests), ll(each.errors), each.latency_ms);
  }
  return out;
}

std::string SimReport::json() const {
  boost::json::array notes, rows;
  for (const SimNote& each : timeline)
    notes.push_back(boost::json::object{{"at", clock_text(each.at)}, {"what", each.what}});
  for (const SimSample& each : samples) {
    rows.push_back(boost::json::object{{"seconds", static_cast<double>(each.at.count()) / 1e9},
                                       {"nodes_ready", each.nodes_ready},
                                       {"nodes_alive", each.nodes_alive},
                                       {"pods", each.pods},
                                       {"pending", each.pending},
                                       {"ready", each.ready},
                                       {"serving", each.serving},
                                       {"ending", each.ending},
                                       {"done", each.done},
                                       {"failed", each.failed},
                                       {"queue", each.queue},
                                       {"writes", each.writes},
                                       {"requests", each.requests},
                                       {"errors", each.errors},
                                       {"latency_ms", each.latency_ms}});
  }
  const auto lines = [](const std::vector<std::string>& list) {
    boost::json::array all;
    for (const std::string& line : list) all.push_back(boost::json::value(line));
    return all;
  };
  return to_pretty_json(
             boost::json::object{{"name", name},
                                 {"seed", seed},
                                 {"passed", passed()},
                                 {"simulated_seconds", static_cast<double>(simulated.count()) / 1e9},
                                 {"pods_created", pods_created},
                                 {"pods_bound", pods_bound},
                                 {"pods_lost", pods_lost},
                                 {"containers_crashed", containers_crashed},
                                 {"writes", writes},
                                 {"events", events},
                                 {"peers", peers},
                                 {"elections", elections},
                                 {"requests", requests},
                                 {"errors", errors},
                                 {"hash", printed("%016llx", static_cast<unsigned long long>(hash))},
                                 {"held", lines(met)},
                                 {"failures", lines(failures)},
                                 {"violations", lines(violations)},
                                 {"timeline", std::move(notes)},
                                 {"samples", std::move(rows)}}) +
         "\n";
}

std::string SimReport::svg() const {
  using S = SimSample;
  std::vector<std::pair<const char*, std::vector<Line>>> panels{
      {"pods",
       {{"serving", "#1b7f3b", [](const S& s, const S*) { return static_cast<double>(s.serving); }},
        {"Ready by the API", "#5aa9e6", [](const S& s, const S*) { return static_cast<double>(s.ready); }},
        {"waiting", "#d1495b", [](const S& s, const S*) { return static_cast<double>(s.pending); }},
        {"all", "#888888", [](const S& s, const S*) { return static_cast<double>(s.pods); }}}},
      {"nodes",
       {{"alive", "#1b7f3b", [](const S& s, const S*) { return static_cast<double>(s.nodes_alive); }},
        {"Ready by the API", "#5aa9e6",
         [](const S& s, const S*) { return static_cast<double>(s.nodes_ready); }}}},
      {"scheduler's queue",
       {{"pods", "#d1495b", [](const S& s, const S*) { return static_cast<double>(s.queue); }}}}};
  if (requests > 0) {
    panels.push_back({"requests per second",
                      {{"asked", "#5aa9e6",
                        [](const S& s, const S* b) {
                          const double seconds =
                              b == nullptr ? 1 : static_cast<double>((s.at - b->at).count()) / 1e9;
                          return seconds <= 0 ? 0 : static_cast<double>(s.requests) / seconds;
                        }},
                       {"failed", "#d1495b", [](const S& s, const S* b) {
                          const double seconds =
                              b == nullptr ? 1 : static_cast<double>((s.at - b->at).count()) / 1e9;
                          return seconds <= 0 ? 0 : static_cast<double>(s.errors) / seconds;
                        }}}});
  }
  const double height = kTop + static_cast<double>(panels.size()) * (kPanel + kGap);
  std::string out = printed(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%g\" height=\"%g\" "
      "viewBox=\"0 0 %g %g\" font-family=\"sans-serif\" font-size=\"12\">\n",
      kWidth, height, kWidth, height);
  out +=
      "<style>.grid{stroke:#ddd}.axis{fill:#666}.title{font-weight:bold}</style>\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
  out += "<text x=\"" + printed("%g", kLeft) + "\" y=\"18\" font-size=\"15\">" + escaped(name) + ", seed " +
         std::to_string(seed) + (passed() ? ", passed" : ", FAILED") + "</text>\n";
  double top = kTop + 10;
  for (const auto& [title, lines] : panels) {
    panel(out, *this, top, title, lines);
    top += kPanel + kGap;
  }
  const double width = kWidth - kLeft - kRight;
  for (int i = 0; i <= 6; ++i) {
    out +=
        printed("<text x=\"%.1f\" y=\"%g\" class=\"axis\" text-anchor=\"middle\">%s</text>\n",
                kLeft + width * i / 6, top - kGap + 18, clock_text(simulated * i / 6).substr(0, 8).c_str());
  }
  return out + "</svg>\n";
}

}  // namespace orchestra
