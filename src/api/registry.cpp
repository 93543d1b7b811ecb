// TypeRegistry: the records of the builtin kinds, read from the kind blocks of the .types files.
//
// The blocks are text on purpose: a kind is a handful of lines that a person reads and changes, there are
// some fifty of them, and reading them takes less than a millisecond once per process.
#include <algorithm>
#include <sstream>

#include "api/builtin_schemas.hpp"
#include "api/kinds.hpp"
#include "api/types.hpp"
#include "api/versions.hpp"
#include "base/assert.hpp"

namespace orchestra::api {
namespace {

/// Upstream's order of groups in /apis; groups that are not here follow by name.
constexpr std::string_view kGroupOrder[] = {"",
                                            "apiregistration.k8s.io",
                                            "apps",
                                            "events.k8s.io",
                                            "authentication.k8s.io",
                                            "authorization.k8s.io",
                                            "autoscaling",
                                            "batch",
                                            "certificates.k8s.io",
                                            "networking.k8s.io",
                                            "policy",
                                            "rbac.authorization.k8s.io",
                                            "storage.k8s.io",
                                            "admissionregistration.k8s.io",
                                            "apiextensions.k8s.io",
                                            "scheduling.k8s.io",
                                            "coordination.k8s.io",
                                            "node.k8s.io",
                                            "discovery.k8s.io",
                                            "flowcontrol.apiserver.k8s.io"};

std::size_t group_rank(std::string_view group) {
  const auto found = std::find(std::begin(kGroupOrder), std::end(kGroupOrder), group);
  return static_cast<std::size_t>(found - std::begin(kGroupOrder));
}

std::vector<std::string> words_of(std::string_view text, char separator) {
  std::vector<std::string> out;
  for (const std::string_view word : split_words(text, separator)) {
    if (!word.empty()) out.emplace_back(word);
  }
  return out;
}

/// `spec.nodeName`, `spec.unschedulable=/spec/unschedulable,false`, `spec.hostNetwork=false`,
/// `regarding.kind=>involvedObject.kind` (its name in what is stored).
SelectableField selectable_of(std::string_view text) {
  SelectableField field;
  const std::size_t equals = text.find('=');
  field.label = text.substr(0, equals);
  std::string_view rest = equals == std::string_view::npos ? std::string_view() : text.substr(equals + 1);
  if (!rest.empty() && rest.front() == '>') {
    field.stored = rest.substr(1);
    field.pointer = "/" + field.stored;
    std::replace(field.pointer.begin(), field.pointer.end(), '.', '/');
    return field;
  }
  if (!rest.empty() && rest.front() == '/') {
    const std::size_t comma = rest.find(',');
    field.pointer = rest.substr(0, comma);
    field.absent = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
  } else {
    field.pointer = "/" + field.label;
    std::replace(field.pointer.begin(), field.pointer.end(), '.', '/');
    field.absent = rest;
  }
  return field;
}

/// `Age`, `IP*` (priority 1), `Desired integer`, `Name* name`.
Column column_of(std::string_view text) {
  Column column;
  const std::size_t last_space = text.rfind(' ');
  if (last_space != std::string_view::npos) {
    const std::string_view last = text.substr(last_space + 1);
    if (last == "integer" || last == "name" || last == "date" || last == "boolean") {
      if (last == "name") column.format = "name";
      if (last != "name") column.type = last;
      text = text.substr(0, last_space);
    }
  }
  if (text.ends_with('*')) {
    column.priority = 1;
    text.remove_suffix(1);
  }
  column.name = text;
  column.description =
      column.name == "Age" ? "Time since the object was created." : column.name + " of the object.";
  return column;
}

NameRule name_rule_of(std::string_view text) {
  if (text == "dns_label") return NameRule::dns_label;
  if (text == "rfc1035_label") return NameRule::rfc1035_label;
  if (text == "path_segment") return NameRule::path_segment;
  ORC_ASSERT_MSG(text == "dns_subdomain", "unknown name rule in a .types file");
  return NameRule::dns_subdomain;
}

class KindReader {
 public:
  explicit KindReader(const KindText& source) : source_(source) {
    const auto [group, version] = split_api_version(source.group_version);
    record_.group = group;
    record_.kind = source.kind;
    record_.list_kind = record_.kind + "List";
    record_.versions.push_back({.name = version, .schema = builtin_type(source.type_name)});
    record_.verbs = {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"};
    ORC_ASSERT_MSG(bool(record_.versions.front().schema), source.type_name);
  }
  /// Null for a kind that only has a schema.
  TypePtr read() {
    std::istringstream lines(source_.text);
    for (std::string line; std::getline(lines, line);) read_line(line);
    if (hidden_ || another_version_) return nullptr;
    if (leading_name_) {
      record_.columns.insert(record_.columns.begin(),
                             {.name = "Name", .format = "name", .description = "Name of the object."});
    }
    if (record_.columns.size() == 1) record_.columns.push_back(column_of("Age"));
    return std::make_shared<const TypeRecord>(std::move(record_));
  }

  /// A version of a kind that another block describes; `read` has returned null.
  const TypeVersion* another_version() const {
    return another_version_ ? &record_.versions.front() : nullptr;
  }
  const TypeRecord& record() const { return record_; }

 private:
  void read_line(const std::string& line) {
    const std::size_t space = line.find(' ');
    const std::string_view word = std::string_view(line).substr(0, space);
    const std::string_view rest =
        space == std::string::npos ? std::string_view() : std::string_view(line).substr(space + 1);
    if (word == "names") {
      std::vector<std::string> names = words_of(rest, ' ');
      ORC_ASSERT(names.size() >= 2);
      record_.plural = names[0];
      record_.singular = names[1];
      record_.short_names.assign(names.begin() + 2, names.end());
    } else if (word == "categories") {
      record_.categories = words_of(rest, ' ');
    } else if (word == "scope") {
      record_.namespaced = rest != "cluster";
    } else if (word == "verbs") {
      record_.verbs = words_of(rest, ',');
    } else if (word == "sub") {
      read_subresource(words_of(rest, ' '));
    } else if (word == "flags") {
      for (const std::string& flag : words_of(rest, ' ')) read_flag(flag);
    } else if (word == "name") {
      record_.name_rule = name_rule_of(rest);
    } else if (word == "ttl") {
      record_.ttl_seconds = std::stoll(std::string(rest));
    } else if (word == "column") {
      record_.columns.push_back(column_of(rest));
    } else if (word == "select") {
      for (const std::string& field : words_of(rest, ' ')) record_.selectable.push_back(selectable_of(field));
    } else if (word == "hooks") {
      record_.hooks = hooks_named(rest);
    } else if (word == "version") {
      another_version_ = true;
      record_.versions.front().storage = false;
      record_.versions.front().conversion = conversion_named(rest);
    } else if (word == "stored") {
      const std::vector<std::string> words = words_of(rest, ' ');
      record_.storage_api_version = words.at(0);
      record_.storage_group = split_api_version(words.at(0)).first;
      record_.storage_plural = words.at(1);
      record_.storage_schema = builtin_type(words.at(2));
      record_.versions.front().conversion = conversion_named(words.at(3));
    } else if (word == "deprecated") {
      record_.versions.front().deprecation = rest;
    } else if (word == "nocolumnname") {
      leading_name_ = false;
    } else {
      ORC_ASSERT_MSG(word == "hidden", "unknown word in a kind block of a .types file");
      hidden_ = true;
    }
  }
  void read_subresource(const std::vector<std::string>& words) {
    Subresource sub{.name = words.at(0), .kind = record_.gvk(record_.versions.front().name)};
    sub.verbs =
        words.size() > 1 ? words_of(words[1], ',') : std::vector<std::string>{"get", "patch", "update"};
    if (words.size() > 2) sub.kind.kind = words[2];
    if (words.size() > 3) std::tie(sub.kind.group, sub.kind.version) = split_api_version(words[3]);
    if (sub.name == "status") record_.has_status = true;
    record_.subresources.push_back(std::move(sub));
  }
  void read_flag(std::string_view flag) {
    if (flag == "graceful")
      record_.graceful = true;
    else if (flag == "generation")
      record_.has_generation = true;
    else if (flag == "put_creates")
      record_.put_creates = true;
    else if (flag == "conditional")
      record_.unconditional_update = false;
    else if (flag == "virtual")
      record_.virtual_only = true;
    else if (flag == "defines_types")
      record_.defines_types = true;
    else if (flag == "lists_versions")
      record_.lists_versions = true;
    else if (flag == "returns_deleted")
      record_.returns_deleted = true;
    else if (flag == "keeps_status")
      record_.keeps_status = true;
    else
      ORC_ASSERT_MSG(flag == "computed", "unknown flag in a .types file"), record_.computed = true;
  }

  const KindText& source_;
  TypeRecord record_;
  bool leading_name_ = true;
  bool hidden_ = false;
  bool another_version_ = false;
};

bool before(const TypePtr& a, const TypePtr& b) {
  const auto key = [](const TypePtr& record) {
    return std::tuple(group_rank(record->group), std::string_view(record->group),
                      std::string_view(record->plural));
  };
  return key(a) < key(b);
}

}  // namespace

std::pair<std::string, std::string> split_api_version(std::string_view api_version) {
  const std::size_t slash = api_version.find('/');
  if (slash == std::string_view::npos) return {"", std::string(api_version)};
  return {std::string(api_version.substr(0, slash)), std::string(api_version.substr(slash + 1))};
}

const TypeVersion* TypeRecord::version(std::string_view name) const {
  for (const TypeVersion& each : versions) {
    if (each.name == name) return &each;
  }
  return nullptr;
}

const TypeVersion& TypeRecord::storage_version() const {
  for (const TypeVersion& each : versions) {
    if (each.storage) return each;
  }
  return versions.front();
}

std::string TypeRecord::stored_api_version() const {
  return storage_api_version.empty() ? gvk(storage_version().name).api_version() : storage_api_version;
}

const Subresource* TypeRecord::subresource(std::string_view name) const {
  for (const Subresource& each : subresources) {
    if (each.name == name) return &each;
  }
  return nullptr;
}

bool TypeRecord::allows(std::string_view verb) const {
  return std::find(verbs.begin(), verbs.end(), verb) != verbs.end();
}

std::shared_ptr<const TypeRegistry> TypeRegistry::builtin() {
  static const std::shared_ptr<const TypeRegistry> kBuiltin = [] {
    auto registry = std::make_shared<TypeRegistry>();
    std::vector<std::tuple<std::string, std::string, TypeVersion>> more;
    for (const KindText& source : builtin_kinds()) {
      KindReader reader(source);
      if (TypePtr record = reader.read()) {
        registry->records_.push_back(std::move(record));
      } else if (const TypeVersion* version = reader.another_version()) {
        more.emplace_back(reader.record().group, source.kind, *version);
      }
    }
    for (const auto& [group, kind, version] : more) {
      for (TypePtr& record : registry->records_) {
        if (record->group != group || record->kind != kind) continue;
        auto copy = std::make_shared<TypeRecord>(*record);
        copy->versions.push_back(version);
        record = std::move(copy);
      }
    }
    std::sort(registry->records_.begin(), registry->records_.end(), before);
    return registry;
  }();
  return kBuiltin;
}

TypePtr TypeRegistry::find(std::string_view group, std::string_view version,
                           std::string_view resource) const {
  for (const TypePtr& record : records_) {
    if (record->plural != resource || record->group != group) continue;
    const TypeVersion* found = record->version(version);
    if (found == nullptr || !found->served) continue;
    const auto own = record->by_version.find(version);
    return own == record->by_version.end() ? record : own->second;
  }
  return nullptr;
}

TypePtr TypeRegistry::find_kind(std::string_view group, std::string_view version,
                                std::string_view kind) const {
  for (const TypePtr& record : records_) {
    if (record->kind != kind || record->group != group) continue;
    const TypeVersion* found = record->version(version);
    if (found != nullptr && found->served) return record;
  }
  return nullptr;
}

TypePtr TypeRegistry::find_any_version(std::string_view group, std::string_view resource) const {
  for (const TypePtr& record : records_) {
    if (record->plural == resource && record->group == group) return record;
  }
  return nullptr;
}

std::vector<TypeRegistry::GroupVersion> TypeRegistry::group_versions() const {
  std::vector<GroupVersion> out;
  for (const TypePtr& record : records_) {
    for (const TypeVersion& version : record->versions) {
      const auto same = [&](const GroupVersion& each) {
        return each.group == record->group && each.version == version.name;
      };
      if (!version.served || std::any_of(out.begin(), out.end(), same)) continue;
      const bool first = std::none_of(out.begin(), out.end(),
                                      [&](const GroupVersion& each) { return each.group == record->group; });
      out.push_back({record->group, version.name, first});
    }
  }
  return out;
}

bool TypeRegistry::has_group_version(std::string_view group, std::string_view version) const {
  return std::any_of(records_.begin(), records_.end(), [&](const TypePtr& record) {
    const TypeVersion* found = record->group == group ? record->version(version) : nullptr;
    return found != nullptr && found->served;
  });
}

std::shared_ptr<const TypeRegistry> TypeRegistry::with(TypePtr record) const {
  auto copy = std::make_shared<TypeRegistry>(*this);
  std::erase_if(copy->records_, [&](const TypePtr& each) {
    return each->group == record->group && each->plural == record->plural;
  });
  const auto place = std::upper_bound(copy->records_.begin(), copy->records_.end(), record, before);
  copy->records_.insert(place, std::move(record));
  return copy;
}

std::shared_ptr<const TypeRegistry> TypeRegistry::without(std::string_view group,
                                                          std::string_view plural) const {
  auto copy = std::make_shared<TypeRegistry>(*this);
  std::erase_if(copy->records_,
                [&](const TypePtr& each) { return each->group == group && each->plural == plural; });
  return copy;
}

}  // namespace orchestra::api
