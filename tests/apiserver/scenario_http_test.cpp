// Runs tests/scenarios/apiserver/*.txt against a server over HTTP; one server for each file, steps in order.
//
//   # what it shows
//   POST /api/v1/namespaces/default/configmaps as yaml show /metadata/managedFields
//   (body)
//   ----
//   201
//   (the answer as YAML, or the part of it that `show` names)
//   ====
//   TABLE /api/v1/...                  columns and cells of a Table, joined by " | "
//   EXPLAIN apps/v1 Deployment spec.replicas   type and description, as kubectl explain finds them
//   WAIT /path POINTER VALUE           until the answer has this value there (at most 10 s)
//   WATCH /path show POINTER           each event of a watch until it ends (say timeoutSeconds=1), a line
//   each
// `as` is json, yaml (default), apply, merge, strategic or jsonpatch; `accept` the form of the answer; `user`
// and `group` who asks (impersonated by the administrator);
// `keep NAME POINTER` lets later steps write {{NAME}} in paths and bodies. A failure prints its message and
// causes. uids, times and resourceVersions are replaced by words. ORC_WRITE_SCENARIOS=1 writes today's
// answers. `show /details` shows those of a failure, too.
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <thread>

#include "base/http_client.hpp"
#include "base/json.hpp"
#include "base/yaml.hpp"
#include "net/http/http_server.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

struct Step {
  std::string title, command, input, expected;
};

std::vector<Step> read_steps(const fs::path& path) {
  std::ifstream file(path);
  std::vector<Step> out;
  Step current;
  bool answer = false;
  const auto finish = [&] {
    if (!current.command.empty()) out.push_back(current);
    current = {};
    answer = false;
  };
  for (std::string line; std::getline(file, line);) {
    if (line == "====") {
      finish();
    } else if (line == "----") {
      answer = true;
    } else if (answer) {
      current.expected += line + "\n";
    } else if (current.command.empty()) {
      if (line.starts_with("#"))
        current.title += (current.title.empty() ? "" : "\n") + line;
      else if (!line.empty())
        current.command = line;
    } else {
      current.input += line + "\n";
    }
  }
  finish();
  return out;
}

std::string normalised(std::string text) {
  static const std::vector<std::pair<std::regex, std::string>> kRules = {
      {std::regex("\"?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\"?"), "UID"},
      {std::regex("\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d+)?Z"), "TIME"},
      {std::regex("resourceVersion: \"\\d+\""), "resourceVersion: \"RV\""},
      {std::regex("(, current: |in record \\()\\d+"), "$1RV"},
      {std::regex("10\\.96\\.(?!0\\.1\\b)\\d+\\.\\d+"), "CLUSTERIP"},
      {std::regex("(\\| |\\n)(\\d+[dhms])+(?= \\||\\n)"), "$1AGE"},
      {std::regex("(\\S+-)[bcdfghjklmnpqrstvwxz2456789]{5}\\b"), "$1XXXXX"},
  };
  for (const auto& [rule, word] : kRules) text = std::regex_replace(text, rule, word);
  return text;
}

class Runner {
 public:
  Runner() : server_(engine_, MemoryStore::create(engine_), {.insecure_http = "127.0.0.1:0"}) {
    const auto started = server_.start();
    REQUIRE_MESSAGE(started, (started ? "" : started.error().to_string()));
  }
  ~Runner() { server_.stop(); }

  std::string run(const Step& step) {
    std::istringstream words(filled(step.command));
    std::string verb, path;
    words >> verb >> path;
    if (verb == "EXPLAIN") {
      std::string kind, field;
      words >> kind >> field;
      return explain(path, kind, field);
    }
    if (verb == "WAIT") {
      std::string pointer, value;
      words >> pointer >> value;
      return wait(path, pointer, value);
    }
    std::string type = "yaml", show, accept = "application/json", name, pointer;
    user_.clear();
    groups_.clear();
    for (std::string word; words >> word;) {
      if (word == "as") words >> type;
      if (word == "show") words >> show;
      if (word == "accept") words >> accept;
      if (word == "user") words >> user_;
      if (word == "group") words >> groups_.emplace_back();
      if (word == "keep") words >> name >> pointer;
    }
    if (verb == "TABLE") return table(path);
    if (verb == "WATCH") return watch(path, accept, show);
    const HttpResponse answer = ask(verb, path, filled(step.input), media_type(type), accept);
    if (!name.empty()) {
      if (const auto tree = parse_json(answer.body)) kept_[name] = string_at(*tree, pointer);
    }
    return print(answer, show);
  }

 private:
  std::string filled(std::string text) const {
    for (const auto& [name, value] : kept_) {
      const std::string word = "{{" + name + "}}";
      for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word))
        text.replace(at, word.size(), value);
    }
    return text;
  }
  std::string watch(const std::string& path, const std::string& accept, const std::string& show) {
    const HttpResponse answer = ask("GET", path, "", "", accept);
    if (answer.status != 200) return print(answer, "");
    std::string out;
    std::istringstream lines(answer.body);
    for (std::string line; std::getline(lines, line);) {
      const auto event = parse_json(line);
      if (!event) return out + "no JSON: " + line + "\n";
      const json::value* part = find(*event, "/object" + show);
      out += string_at(*event, "/type") + " " + string_at(*event, "/object/kind") +
             (part == nullptr ? "" : " " + to_json(*part)) + "\n";
    }
    return out;
  }
  static std::string media_type(const std::string& name) {
    if (name == "apply") return "application/apply-patch+yaml";
    if (name == "merge") return "application/merge-patch+json";
    if (name == "strategic") return "application/strategic-merge-patch+json";
    if (name == "jsonpatch") return "application/json-patch+json";
    return "application/" + name;
  }
  HttpResponse ask(const std::string& method, const std::string& path, const std::string& body,
                   const std::string& type, const std::string& accept) {
    HttpRequest request;
    request.method = method;
    request.url = "http://" + server_.insecure_address() + path;
    request.body = body;
    request.headers = {{"Accept", accept}, {"User-Agent", "tester/1.0"}};
    if (!body.empty()) request.headers.emplace_back("Content-Type", type);
    if (!user_.empty()) request.headers.emplace_back("Impersonate-User", user_);
    for (const std::string& group : groups_) request.headers.emplace_back("Impersonate-Group", group);
    auto answer = http_->send(std::move(request)).wait(60s);
    REQUIRE_MESSAGE(answer, (answer ? "" : answer.error().to_string()));
    return *answer;
  }
  static std::string print(const HttpResponse& answer, const std::string& show) {
    std::string out = std::to_string(answer.status) + "\n";
    for (const auto& [name, value] : answer.headers) {
      if (name == "warning") out += "Warning: " + value + "\n";
    }
    const auto tree = parse_json(answer.body);
    if (!tree) return out + answer.body + "\n";
    if (string_at(*tree, "/kind") == "Status" && answer.status >= 400) {
      out += string_at(*tree, "/message") + "\n";
      if (show == "/details") {
        const json::value* details = find(*tree, show);
        return out + (details == nullptr ? "no details\n" : to_yaml(*details));
      }
      if (const json::array* causes = array_at(*tree, "/details/causes")) {
        for (const json::value& cause : *causes)
          out += "- " + string_at(cause, "/field") + ": " + string_at(cause, "/reason") + "\n";
      }
      return out;
    }
    if (show.empty()) return out + to_yaml(*tree);
    if (show == "none") return out;
    const json::value* part = find(*tree, show);
    if (part == nullptr) return out + "nothing at " + show + "\n";
    if (part->is_object() || part->is_array()) return out + to_yaml(*part);
    return out + (part->is_string() ? std::string(part->get_string()) : to_json(*part)) + "\n";
  }
  std::string table(const std::string& path) {
    const HttpResponse answer = ask("GET", path, "", "", "application/json;as=Table;v=v1;g=meta.k8s.io");
    const auto tree = parse_json(answer.body);
    if (!tree || answer.status != 200) return print(answer, "");
    std::string out;
    for (const json::value& column : *array_at(*tree, "/columnDefinitions"))
      out += (out.empty() ? "" : " | ") + string_at(column, "/name") +
             (int_at(column, "/priority") > 0 ? "*" : "");
    out += "\n";
    for (const json::value& row : *array_at(*tree, "/rows")) {
      std::string line;
      for (const json::value& cell : *array_at(row, "/cells"))
        line +=
            (line.empty() ? "" : " | ") + (cell.is_string() ? std::string(cell.get_string()) : to_json(cell));
      out += line + "\n";
    }
    return out;
  }
  std::string explain(const std::string& version, const std::string& kind, const std::string& field) {
    const std::string path = version.find('/') == std::string::npos ? "api/" + version : "apis/" + version;
    const auto document = parse_json(ask("GET", "/openapi/v3/" + path, "", "", "application/json").body);
    if (!document || object_at(*document, "/components/schemas") == nullptr) return "no document\n";
    const json::object& schemas = *object_at(*document, "/components/schemas");
    const json::value* at = nullptr;
    for (const auto& [name, schema] : schemas) {
      const json::array* gvks = array_at(schema, "/x-kubernetes-group-version-kind");
      if (gvks == nullptr) continue;
      for (const json::value& gvk : *gvks) {
        const std::string group = string_at(gvk, "/group");
        const std::string full = (group.empty() ? "" : group + "/") + string_at(gvk, "/version");
        if (full == version && string_at(gvk, "/kind") == kind) at = &schema;
      }
    }
    if (at == nullptr) return "no kind\n";
    const auto resolve = [&](const json::value* schema) {
      std::string reference = string_at(*schema, "/$ref", string_at(*schema, "/allOf/0/$ref"));
      return reference.empty() ? schema : &schemas.at(reference.substr(reference.rfind('/') + 1));
    };
    const json::value* outer = at;
    std::stringstream names(field);
    for (std::string name; std::getline(names, name, '.');) {
      const json::value* inner = resolve(at);
      if (const json::value* items = find(*inner, "/items")) inner = resolve(items);
      const json::object* properties = object_at(*inner, "/properties");
      if (properties == nullptr || !properties->contains(name)) return "no field " + name + "\n";
      outer = at = &properties->at(name);
    }
    const std::string description =
        string_at(*outer, "/description", string_at(*resolve(at), "/description"));
    return "<" + string_at(*resolve(at), "/type", "any") + ">\n" +
           (description.empty() ? "" : description + "\n");
  }
  std::string wait(const std::string& path, const std::string& pointer, const std::string& value) {
    std::string seen;
    for (int i = 0; i < 1000; ++i) {
      const auto tree = parse_json(ask("GET", path, "", "", "application/json").body);
      const json::value* found = tree ? find(*tree, pointer) : nullptr;
      seen = found == nullptr ? "" : found->is_string() ? std::string(found->get_string()) : to_json(*found);
      if (seen == value) return "yes\n";
      std::this_thread::sleep_for(10ms);  // a poll of the outside, not of our own state
    }
    return "still " + seen + "\n";
  }

  std::map<std::string, std::string> kept_;
  std::string user_;  ///< of this step; empty: the administrator
  std::vector<std::string> groups_;
  Engine engine_;
  ApiServer server_;
  std::shared_ptr<HttpClient> http_ = make_http_client(engine_);
};

}  // namespace

TEST_CASE("every scenario over HTTP gives the answer that its file holds") {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(ORCHESTRA_SOURCE_DIR "/tests/scenarios/apiserver"))
    files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  const char* only = std::getenv("ORC_SCENARIO_ONLY");
  const bool write = std::getenv("ORC_WRITE_SCENARIOS") != nullptr;
  for (const fs::path& path : files) {
    if (only != nullptr && path.filename().string().find(only) == std::string::npos) continue;
    Runner runner;
    std::string rewritten;
    for (const Step& step : read_steps(path)) {
      const std::string printed = normalised(runner.run(step));
      if (!write) {
        CAPTURE(path.filename().string());
        CAPTURE(step.title);
        CAPTURE(step.command);
        CHECK(printed == step.expected);
      }
      rewritten += (rewritten.empty() ? "" : "====\n") + (step.title.empty() ? "" : step.title + "\n") +
                   step.command + "\n" + step.input + "----\n" + printed;
    }
    if (write) std::ofstream(path) << rewritten;
  }
  CHECK(files.size() > 0);
}
