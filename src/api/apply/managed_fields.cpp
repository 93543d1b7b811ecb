// Managers as text and as values: see managed_fields.hpp. What they own changes in ownership.cpp.
#include "api/apply/managed_fields.hpp"

#include <algorithm>

#include "api/tree.hpp"
#include "base/json_text.hpp"

namespace orchestra::api {
namespace {
bool printable(char c) { return c >= ' ' && c <= '~'; }
}  // namespace

bool FieldManager::is(const FieldManager& other) const {
  return name == other.name && operation == other.operation && subresource == other.subresource &&
         (applies() || api_version == other.api_version);
}

Result<FieldManagers> read_managers(const json::value& managed_fields) {
  FieldManagers managers;
  if (!managed_fields.is_array()) return managers;
  for (const json::value& entry : managed_fields.get_array()) {
    FieldManager manager;
    manager.name = string_at(entry, "/manager");
    manager.operation = string_at(entry, "/operation");
    manager.api_version = string_at(entry, "/apiVersion");
    manager.subresource = string_at(entry, "/subresource");
    manager.time = string_at(entry, "/time");
    if (manager.operation != "Apply" && manager.operation != "Update")
      return Error(Error::invalid, "api", "metadata.managedFields: operation must be Apply or Update");
    if (manager.api_version.empty() || string_at(entry, "/fieldsType") != "FieldsV1")
      return Error(Error::invalid, "api", "metadata.managedFields: fieldsType must be FieldsV1");
    const json::value* fields = find(entry, "/fieldsV1");
    if (fields != nullptr) {
      ORC_ASSIGN(manager.fields, FieldSet::from_json(*fields));
      manager.fields.member = false;
    }
    managers.push_back(std::move(manager));
  }
  return managers;
}

namespace {
std::vector<const FieldManager*> in_order(const FieldManagers& managers) {
  std::vector<const FieldManager*> sorted;
  for (const FieldManager& manager : managers) sorted.push_back(&manager);
  std::sort(sorted.begin(), sorted.end(), [](const FieldManager* a, const FieldManager* b) {
    return std::tie(a->operation, a->time, a->name, a->api_version, a->subresource, a) <
           std::tie(b->operation, b->time, b->name, b->api_version, b->subresource, b);
  });
  return sorted;
}
}  // namespace

json::array print_managers(const FieldManagers& managers, const json::storage_ptr& memory) {
  json::array out(memory);
  for (const FieldManager* manager : in_order(managers)) {
    json::object entry(
        {{"manager", manager->name}, {"operation", manager->operation}, {"apiVersion", manager->api_version}},
        memory);
    if (!manager->time.empty()) entry["time"] = manager->time;
    entry["fieldsType"] = "FieldsV1";
    entry["fieldsV1"] = manager->fields.to_json(memory);
    if (!manager->subresource.empty()) entry["subresource"] = manager->subresource;
    out.push_back(std::move(entry));
  }
  return out;
}

std::string managers_text(const FieldManagers& managers) {
  std::string out = "[";
  const auto member = [&](std::string_view key, const std::string& value) {
    out += key;
    print_quoted(out, value);
  };
  for (const FieldManager* manager : in_order(managers)) {
    if (out.size() > 1) out += ',';
    member("{\"manager\":", manager->name);
    member(",\"operation\":", manager->operation);
    member(",\"apiVersion\":", manager->api_version);
    if (!manager->time.empty()) member(",\"time\":", manager->time);
    out += ",\"fieldsType\":\"FieldsV1\",\"fieldsV1\":";
    manager->fields.print(out);
    if (!manager->subresource.empty()) member(",\"subresource\":", manager->subresource);
    out += '}';
  }
  return out += ']';
}

namespace {
bool take(std::string_view& text, std::string_view word) {
  if (!text.starts_with(word)) return false;
  text.remove_prefix(word.size());
  return true;
}

/// A member of managers_text, whose value needs no escapes.
bool take_member(std::string_view& text, std::string_view key, std::string& value) {
  std::string_view rest = text;
  if (!take(rest, key) || !take(rest, "\"")) return false;
  const std::size_t end = rest.find('"');
  if (end == std::string_view::npos || rest.substr(0, end).find('\\') != std::string_view::npos) return false;
  value.assign(rest.substr(0, end));
  text = rest.substr(end + 1);
  return true;
}

/// nullopt: not as managers_text writes it.
std::optional<FieldManagers> read_own(std::string_view text) {
  FieldManagers managers;
  if (!take(text, "[")) return std::nullopt;
  do {
    FieldManager& manager = managers.emplace_back();
    if (!take_member(text, "{\"manager\":", manager.name) ||
        !take_member(text, ",\"operation\":", manager.operation) ||
        !take_member(text, ",\"apiVersion\":", manager.api_version))
      return std::nullopt;
    (void)take_member(text, ",\"time\":", manager.time);
    if (!take(text, ",\"fieldsType\":\"FieldsV1\",\"fieldsV1\":")) return std::nullopt;
    auto fields = FieldSet::take_printed(text);
    if (!fields) return std::nullopt;
    manager.fields = std::move(*fields);
    manager.fields.member = false;
    (void)take_member(text, ",\"subresource\":", manager.subresource);
    if (!take(text, "}") || manager.api_version.empty() ||
        (manager.operation != "Apply" && manager.operation != "Update"))
      return std::nullopt;
  } while (take(text, ","));
  if (text != "]") return std::nullopt;
  return managers;
}
}  // namespace

Result<FieldManagers> read_managers_text(std::string_view text) {
  if (text.empty()) return FieldManagers();
  if (auto own = read_own(text)) return std::move(*own);
  ORC_ASSIGN(const json::value tree, parse_json(text));
  return read_managers(tree);
}

bool same_but_times(const FieldManagers& a, const FieldManagers& b) {
  if (a.size() != b.size()) return false;
  return std::all_of(a.begin(), a.end(), [&](const FieldManager& one) {
    return std::any_of(b.begin(), b.end(), [&](const FieldManager& other) {
      return one.is(other) && one.api_version == other.api_version && one.fields == other.fields;
    });
  });
}

std::string manager_of_user_agent(std::string_view user_agent) {
  std::string name;
  for (const char c : user_agent.substr(0, user_agent.find('/'))) {
    if (printable(c) && name.size() < kManagerNameMax) name += c;
  }
  return name.empty() ? "unknown" : name;
}

std::string check_manager_name(std::string_view name) {
  if (name.size() > kManagerNameMax)
    return "Too long: may not be more than " + std::to_string(kManagerNameMax) + " bytes";
  if (!std::all_of(name.begin(), name.end(), printable))
    return "Invalid value: " + json::serialize(json::string(name)) +
           ": should only contain printable characters";
  return {};
}

}  // namespace orchestra::api
