// Runs tests/scenarios/api/*.txt: a command and a YAML document, `----`, and the whole answer.
//
//   # what it shows
//   default            defaults of the document, as YAML
//   strict             unknown fields and type errors
//   validate           errors of a create (after defaults)
//   update             errors of an update; two documents, old then new
//   update-status      the same through /status
//   warn               warnings of a create or, with two documents, an update
//   cells              the cells of the row, joined by " | "
//   patch-strategic    document and patch; the result as YAML (also patch-merge, patch-json)
// Scenarios of one file are separated by a line of `====`.
#include <filesystem>
#include <fstream>
#include <sstream>

#include "api/patches.hpp"
#include "api/warnings.hpp"
#include "tests/api/support.hpp"
#include "tests/support/paths.hpp"

using namespace orchestra;

namespace {

struct Scenario {
  std::string title, command, input, expected;
};

std::vector<Scenario> read_scenarios(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::vector<Scenario> out;
  Scenario current;
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
        current.title += line;
      else if (!line.empty())
        current.command = line;
    } else {
      current.input += line + "\n";
    }
  }
  finish();
  return out;
}

std::string print(const api::FieldErrors& errors) {
  std::string out;
  for (const api::FieldError& error : errors) out += error.to_string() + "\n";
  return out.empty() ? "valid\n" : out;
}

json::value defaulted(json::value tree) {
  const auto pruned = api::prune_unknown(test::schema_of(tree), tree);
  REQUIRE_MESSAGE(pruned.has_value(), (pruned ? std::string() : pruned.error().message()));
  api::apply_defaults(test::schema_of(tree), tree);
  return tree;
}

std::string strict(json::value tree) {
  const auto unknown = api::prune_unknown(test::schema_of(tree), tree);
  if (!unknown) return unknown.error().message() + "\n";
  std::string out;
  for (const std::string& path : *unknown) out += "unknown " + path + "\n";
  return out + to_yaml(tree);
}

std::string cells(const json::value& tree) {
  std::string out;
  for (const json::value& cell : api::table_cells(*test::type_of(tree), tree.get_object(), test::kNoon)) {
    out += (out.empty() ? "" : " | ") + (cell.is_string() ? std::string(cell.get_string()) : to_json(cell));
  }
  return out + "\n";
}

std::string patched(const std::string& how, json::value document, const json::value& patch) {
  Result<void> done;
  if (how == "patch-json") done = api::json_patch(document, patch);
  if (how == "patch-merge") api::merge_patch(document, patch);
  if (how == "patch-strategic") done = api::strategic_merge_patch(test::schema_of(document), document, patch);
  return done ? to_yaml(document) : done.error().message() + "\n";
}

std::string run(const Scenario& scenario) {
  const auto documents = parse_yaml_documents(scenario.input);
  if (!documents) return documents.error().message() + "\n";
  const std::string& command = scenario.command;
  if (command == "default") return to_yaml(defaulted(documents->at(0)));
  if (command == "strict") return strict(documents->at(0));
  if (command == "cells") return cells(documents->at(0));
  if (command.starts_with("patch-")) return patched(command, documents->at(0), documents->at(1));
  const json::value object = defaulted(documents->back());
  const auto record = test::type_of(object);
  const api::SchemaRef version = test::schema_of(object);
  if (command == "validate") return print(api::validate_create(*record, version, object));
  if (command == "update")
    return print(api::validate_update(*record, version, object, defaulted(documents->at(0))));
  if (command == "update-status") {
    return print(api::validate_status_update(*record, version, object, defaulted(documents->at(0))));
  }
  if (command == "warn") {
    const json::value old = defaulted(documents->at(0));
    const bool change = documents->size() > 1;
    std::string out;
    for (const std::string& text :
         api::warnings_of(*record, object.get_object(), change ? &old.get_object() : nullptr))
      out += text + "\n";
    return out.empty() ? "nothing\n" : out;
  }
  return "unknown command " + command + "\n";
}

/// ORC_WRITE_SCENARIOS=1 writes the answers of today into the files, to be read in the diff.
void rewrite(const std::filesystem::path& path, const std::vector<Scenario>& scenarios) {
  std::ofstream file(path);
  for (std::size_t i = 0; i < scenarios.size(); ++i) {
    const Scenario& each = scenarios[i];
    file << (i > 0 ? "====\n" : "") << (each.title.empty() ? "" : each.title + "\n") << each.command << "\n"
         << each.input << "----\n"
         << run(each);
  }
}

}  // namespace

TEST_CASE("every API scenario gives the answer that its file holds") {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(ORCHESTRA_SOURCE_DIR "/tests/scenarios/api")) {
    const std::vector<Scenario> scenarios = read_scenarios(entry.path());
    if (std::getenv("ORC_WRITE_SCENARIOS") != nullptr) rewrite(entry.path(), scenarios);
    for (const Scenario& scenario : read_scenarios(entry.path())) {
      ++count;
      CAPTURE(entry.path().string());
      CAPTURE(scenario.title);
      CHECK(run(scenario) == scenario.expected);
    }
  }
  CHECK(count > 0);
}
