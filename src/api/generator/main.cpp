// Turns src/api/types/*.types into one C++ file of constant arrays (SchemaNode, strings, kinds).
//
// A .types file is what a person writes; see any of them. Its lines:
//   group apps/v1 io.k8s.api.apps.v1          the group version, and the prefix of OpenAPI type names
//   kind Deployment                           a resource; the indented lines that follow are kept as text and
//     names deployments deployment deploy     read by src/api/registry.cpp (names, sub, column, select, ...)
//   type DeploymentSpec hook=NAME -- text     a message; hook is a TypeHook
//     1 replicas *int32 default=1 -- text     protobuf number, JSON name, type, attributes, description
//     2 inline VolumeSource                   the fields of another message, flat in JSON, nested in protobuf
// Types: string int32 int64 bool double bytes any Time MicroTime Duration Quantity IntOrString RawExtension
// FieldsV1 ResourceList, a message (`core:PodSpec` from another file), *T, []T, map[string]T.
// Attributes: required, always (Go has no omitempty), omitzero, default=JSON, enum=A|B,
// list=atomic|set|map(k,k), map=atomic, patch=merge(key)|merge|replace|retainKeys|merge,retainKeys(key),
// immutable, nonempty (validation), judged (the enum is for readers, a hook checks it), keepempty (an empty
// list is not the same as none). Layout: node 0 is `any`; nodes 1..T are the messages; then the properties of
// each message side by side; then list elements and map values that are not messages, shared by type.
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace {

struct Node {
  std::string kind = "any", list = "plain", patch = "none", hook;
  unsigned flags = 0, number = 0, count = 0, type = 0, first = 0;
  std::string name, default_json, words, merge_key, description;
};
enum Flag : unsigned {
  required = 1,
  omit_empty = 2,
  pointer = 4,
  always = 8,
  immutable = 16,
  atomic = 32,
  canonical = 1024,
  non_empty = 2048,
  judged = 8192
};

struct Field {
  unsigned number = 0;
  std::string name, type, description;
  std::map<std::string, std::string> attributes;
};
struct Message {
  std::string name, full_name, hook, group_alias, description;
  bool is_atomic = false;
  std::vector<Field> fields;
  unsigned first = 0, count = 0;
};
struct Kind {
  std::string group_version, name, full_name, text;
};

[[noreturn]] void fail(const std::string& what) {
  std::cerr << "types generator: " << what << '\n';
  std::exit(1);
}

class Generator {
 public:
  void read(const std::string& path);
  void resolve();
  unsigned place_of(const std::string& name, const Node& object);
  void write(const std::string& path);

 private:
  void read_line(const std::string& line, bool indented);
  Field read_field(std::istringstream& words, const std::string& description);
  void flatten(const Message& message, const Message& owner, unsigned outer, int depth);
  Node property(const Field& field, const Message& owner, unsigned outer);
  void set_type(Node& node, std::string type, const Message& owner);
  unsigned element(std::string type, const Message& owner);
  unsigned message_index(const std::string& type, const Message& owner) const;
  std::uint32_t intern(const std::string& text);

  std::string where_, group_version_, prefix_, alias_;
  Kind* kind_ = nullptr;
  std::vector<Kind> kinds_;
  std::vector<Message> messages_;               // index + 1 = node index = type index
  std::map<std::string, unsigned> message_of_;  // "alias:Name" -> index
  std::vector<Node> nodes_, elements_;
  std::map<std::string, unsigned> element_of_;
  std::map<std::string, std::uint32_t> interned_;
  std::string strings_source_;
  std::uint32_t strings_size_ = 0;
};

void Generator::read(const std::string& path) {
  std::ifstream file(path);
  if (!file) fail("cannot read " + path);
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    where_ = path + ":" + std::to_string(number);
    if (line.empty() || line[0] == '#') continue;
    read_line(line, line[0] == ' ');
  }
}

void Generator::read_line(const std::string& full, bool indented) {
  if (indented && kind_ != nullptr) {
    kind_->text += full.substr(2) + "\n";
    return;
  }
  const std::size_t dashes = full.find(" -- ");
  const std::string description = dashes == std::string::npos ? "" : full.substr(dashes + 4);
  std::istringstream words(full.substr(0, dashes));
  if (indented) {
    if (messages_.empty()) fail(where_ + ": a field before the first type");
    messages_.back().fields.push_back(read_field(words, description));
    return;
  }
  kind_ = nullptr;
  std::string word, name;
  words >> word >> name;
  if (word == "group") {
    group_version_ = name;
    words >> prefix_;
    alias_ = name == "v1" ? "core" : name == "meta/v1" ? "meta" : name;
  } else if (word == "kind") {
    kinds_.push_back({group_version_, name, prefix_ + "." + name, ""});
    kind_ = &kinds_.back();
  } else if (word == "type") {
    Message message{.name = name,
                    .full_name = prefix_ + "." + name,
                    .hook = "",
                    .group_alias = alias_,
                    .description = description};
    for (std::string attribute; words >> attribute;) {
      if (attribute.rfind("hook=", 0) == 0)
        message.hook = attribute.substr(5);
      else if (attribute == "atomic")
        message.is_atomic = true;
      else
        fail(where_ + ": unknown attribute " + attribute);
    }
    message_of_[alias_ + ":" + name] = static_cast<unsigned>(messages_.size());
    messages_.push_back(std::move(message));
  } else {
    fail(where_ + ": expected group, kind or type, not " + word);
  }
}

Field Generator::read_field(std::istringstream& words, const std::string& description) {
  Field field{.description = description};
  if (!(words >> field.number >> field.name >> field.type))
    fail(where_ + ": a field is NUMBER NAME TYPE ...");
  if (field.number > 255)
    fail(where_ + ": protobuf numbers above 255 do not fit the layout of inlined fields");
  for (std::string attribute; words >> attribute;) {
    const std::size_t equals = attribute.find('=');
    const std::string key = attribute.substr(0, equals);
    static const char* const kKnown[] = {"required",  "always",   "omitzero",  "default",
                                         "enum",      "list",     "map",       "patch",
                                         "immutable", "nonempty", "keepempty", "judged"};
    bool known = false;
    for (const char* word : kKnown) known = known || key == word;
    if (!known) fail(where_ + ": unknown attribute " + key);
    field.attributes[key] = equals == std::string::npos ? "" : attribute.substr(equals + 1);
  }
  return field;
}

unsigned Generator::message_index(const std::string& type, const Message& owner) const {
  const std::string key = type.find(':') == std::string::npos ? owner.group_alias + ":" + type : type;
  const auto found = message_of_.find(key);
  if (found == message_of_.end()) fail("unknown type " + type + " in " + owner.full_name);
  return found->second;
}

void Generator::set_type(Node& node, std::string type, const Message& owner) {
  static const std::map<std::string, std::string> kPrimitives = {{"string", "string"},
                                                                 {"int32", "int32"},
                                                                 {"int64", "int64"},
                                                                 {"bool", "boolean"},
                                                                 {"double", "number"},
                                                                 {"bytes", "bytes"},
                                                                 {"any", "json_value"},
                                                                 {"Time", "time"},
                                                                 {"MicroTime", "micro_time"},
                                                                 {"Duration", "duration"},
                                                                 {"Quantity", "quantity"},
                                                                 {"IntOrString", "int_or_string"},
                                                                 {"RawExtension", "raw_extension"},
                                                                 {"FieldsV1", "fields_v1"}};
  if (type[0] == '*') {
    node.flags |= pointer;
    type.erase(0, 1);
  }
  if (const auto primitive = kPrimitives.find(type); primitive != kPrimitives.end()) {
    node.kind = primitive->second;
  } else if (type.rfind("[]", 0) == 0) {
    node.kind = "list";
    node.first = element(type.substr(2), owner);
  } else if (type.rfind("map[string]", 0) == 0) {
    node.kind = "map";
    node.first = element(type.substr(11), owner);
  } else if (type == "ResourceList") {
    node.kind = "map";
    node.flags |= canonical;
    node.first = element("Quantity", owner);
  } else {
    const unsigned index = message_index(type, owner);
    node.kind = "object";
    node.type = index + 1;
    node.hook = messages_[index].hook;
    if (messages_[index].is_atomic) node.flags |= atomic;
  }
}

/// Node index of a list element or map value: the message's own node, or a shared primitive node.
unsigned Generator::element(std::string type, const Message& owner) {
  Node node;
  set_type(node, type, owner);
  if (node.kind == "object") return node.type;
  if (type.find("[]") != std::string::npos || type.find("map") == 0) type = owner.group_alias + " " + type;
  const auto [found, inserted] = element_of_.emplace(type, static_cast<unsigned>(elements_.size()));
  if (inserted) elements_.push_back(node);
  return 0x80000000u | found->second;  // offset by the number of nodes at the end
}

Node Generator::property(const Field& field, const Message& owner, unsigned outer) {
  Node node;
  node.name = field.name;
  node.number = field.number == 0 ? 0 : (outer << 8) | field.number;
  node.description = field.description;
  set_type(node, field.type, owner);
  const auto get = [&](const char* key) {
    const auto found = field.attributes.find(key);
    return found == field.attributes.end() ? std::string() : found->second;
  };
  const auto has = [&](const char* key) { return field.attributes.count(key) != 0; };
  if (has("required")) node.flags |= required;
  if (has("immutable")) node.flags |= immutable;
  if (has("nonempty")) node.flags |= non_empty;
  if (has("judged")) node.flags |= judged;
  if (!has("always") && !has("keepempty")) node.flags |= omit_empty;
  // A struct that is no pointer is always printed, omitempty or not.
  const bool is_struct = node.kind == "object" && (node.flags & pointer) == 0 && !has("omitzero");
  if (is_struct || (has("always") && (node.flags & pointer) == 0)) node.flags |= always;
  if (get("map") == "atomic") node.flags |= atomic;
  node.default_json = get("default");
  node.words = get("enum");
  std::string list = get("list");
  if (list.rfind("map(", 0) == 0) {
    if (!node.words.empty()) fail("a list with keys has no enum: " + owner.full_name);
    node.words = list.substr(4, list.size() - 5);
    list = "map";
  }
  if (!list.empty()) node.list = list;
  std::string patch = get("patch");
  if (const std::size_t open = patch.find('('); open != std::string::npos) {
    node.merge_key = patch.substr(open + 1, patch.size() - open - 2);
    patch.erase(open);
  }
  if (patch == "merge" || patch == "replace")
    node.patch = patch;
  else if (patch == "retainKeys")
    node.patch = "retain_keys";
  else if (patch == "merge,retainKeys")
    node.patch = "merge_retain_keys";
  else if (!patch.empty())
    fail("unknown patch strategy " + patch + " in " + owner.full_name);
  return node;
}

void Generator::flatten(const Message& message, const Message& owner, unsigned outer, int depth) {
  for (const Field& field : message.fields) {
    if (field.name == "inline") {
      // Protobuf nests what JSON flattens: the outer number goes into the high byte. A second level of
      // nesting exists only in kinds that no client sends as protobuf; it gets no number.
      const Message& inner = messages_[message_index(field.type, message)];
      flatten(inner, owner, depth == 0 ? field.number : 0xff, depth + 1);
      continue;
    }
    nodes_.push_back(property(field, message, outer));
    if (outer == 0xff) nodes_.back().number = 0;
  }
}

void Generator::resolve() {
  nodes_.resize(messages_.size() + 1);
  for (std::size_t i = 0; i < messages_.size(); ++i) {
    Message& message = messages_[i];
    message.first = static_cast<unsigned>(nodes_.size());
    flatten(message, message, 0, 0);
    message.count = static_cast<unsigned>(nodes_.size()) - message.first;
    Node& node = nodes_[i + 1];
    node.kind = "object";
    node.type = static_cast<unsigned>(i + 1);
    node.hook = message.hook;
    if (message.is_atomic) node.flags |= atomic;
  }
  const unsigned base = static_cast<unsigned>(nodes_.size());
  nodes_.insert(nodes_.end(), elements_.begin(), elements_.end());
  for (Node& node : nodes_) {
    if (node.kind == "object") {
      node.first = messages_[node.type - 1].first;
      node.count = messages_[node.type - 1].count;
    } else if (node.first & 0x80000000u) {
      node.first = base + (node.first & 0x7fffffffu);
    }
  }
  for (Node& node : nodes_) {
    if (!node.merge_key.empty()) node.count = 1 + place_of(node.merge_key, nodes_[node.first]);
  }
}

/// Which property of an object node has this name.
unsigned Generator::place_of(const std::string& name, const Node& object) {
  for (unsigned i = 0; i < object.count; ++i) {
    if (nodes_[object.first + i].name == name) return i;
  }
  fail("no field " + name + " for a merge key");
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    out += c;
  }
  return out;
}

std::uint32_t Generator::intern(const std::string& text) {
  if (text.empty()) return 0;
  const auto [found, inserted] = interned_.emplace(text, strings_size_);
  if (inserted) {
    strings_source_ += "    \"" + escaped(text) + "\\0\"\n";
    strings_size_ += static_cast<std::uint32_t>(text.size()) + 1;
  }
  return found->second;
}

void Generator::write(const std::string& path) {
  strings_source_ = "    \"\\0\"\n";
  strings_size_ = 1;
  std::ostringstream nodes, names, descriptions, kinds;
  for (const Node& node : nodes_) {
    nodes << "    {K::" << node.kind << ", L::" << node.list << ", P::" << node.patch
          << ", static_cast<std::uint8_t>(H::" << (node.hook.empty() ? "none" : node.hook) << "), "
          << node.flags << ", " << node.number << ", " << node.count << ", " << node.type << ", "
          << node.first << ", " << intern(node.name) << ", " << intern(node.default_json) << ", "
          << intern(node.words) << ", " << intern(node.description) << "},\n";
  }
  names << "    0,\n";
  descriptions << "    0,\n";
  for (const Message& message : messages_) {
    names << "    " << intern(message.full_name) << ",\n";
    descriptions << "    " << intern(message.description) << ",\n";
  }
  for (const Kind& kind : kinds_) {
    kinds << "    {\"" << kind.group_version << "\", \"" << kind.name << "\", \"" << kind.full_name
          << "\", \"" << escaped(kind.text) << "\"},\n";
  }
  std::ofstream out(path);
  out << "// Made by src/api/generator/main.cpp from src/api/types/*.types; do not edit.\n"
         "#include \"api/builtin_schemas.hpp\"\n#include \"api/type_hooks.hpp\"\n\nnamespace orchestra::api "
         "{\nnamespace {\n"
         "using K = SchemaKind;\nusing L = ListKind;\nusing P = PatchStrategy;\nusing H = TypeHook;\n\n"
         "constexpr char kStrings[] =\n"
      << strings_source_ << "    ;\n\nconstexpr SchemaNode kNodes[] = {\n"
      << nodes.str() << "};\n\nconstexpr std::uint32_t kTypeNames[] = {\n"
      << names.str() << "};\n\nconstexpr std::uint32_t kTypeDescriptions[] = {\n"
      << descriptions.str() << "};\n\nconstexpr KindText kKinds[] = {\n"
      << kinds.str()
      << "};\n\nconst SchemaPool kPool{kNodes, kStrings, kTypeNames, kTypeDescriptions};\n}  // namespace\n\n"
         "const SchemaPool& builtin_schemas() { return kPool; }\nstd::span<const KindText> builtin_kinds() { "
         "return kKinds; }\n\n"
         "}  // namespace orchestra::api\n";
  if (!out.flush()) fail("cannot write " + path);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) fail("usage: orc_types_generator OUT.cpp FILE.types...");
  Generator generator;
  for (int i = 2; i < argc; ++i) generator.read(argv[i]);
  generator.resolve();
  generator.write(argv[1]);
  return 0;
}
