// Get and list. A list is a walk over stored bytes at one revision: the header answers the selectors, the
// JSON is copied as it is. A long answer is made in pieces while it is sent, so its memory does not grow
// with its length.
#include "api/computed.hpp"
#include "api/meta.hpp"
#include "api/object_tree.hpp"
#include "api/status.hpp"
#include "api/versions.hpp"
#include "apiserver/admission.hpp"
#include "apiserver/continue_token.hpp"
#include "apiserver/core.hpp"
#include "apiserver/encode.hpp"
#include "apiserver/list_query.hpp"
#include "base/yaml.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::size_t kRangePage = 500;                    // keys read from the snapshot at a time
constexpr std::size_t kChunkBytes = 256 << 10;             // of a long answer
constexpr Duration kFutureWait = std::chrono::seconds(3);  // for a resourceVersion not yet here, as upstream

/// One page of a list, read step by step.
struct ListWalk {
  api::TypePtr type;
  std::string version;
  ListQuery query;
  Representation want;
  Snapshot snapshot;
  KeyRange range;
  Now now;
  std::size_t prefix = 0;  ///< bytes of a key before NAMESPACE/NAME
  std::size_t left = 0;    ///< items that the page may still hold; 0 with limit 0 = unbounded
  bool done = false;
  bool first = true;
  std::string last_key;

  /// Calls `item(kv, view)` for the next keys that match; stops after about `keys` keys.
  template <class F>
  Result<void> step(std::size_t keys, F item) {
    RangeOptions options;
    options.limit = keys;
    ORC_ASSIGN(RangeResult page, snapshot.try_range(range, options));
    for (const KeyValue& kv : page.items) {
      auto view = query.selective() ? decode_stored(kv.value.bytes()) : decode_stored_frame(kv.value.bytes());
      if (!view) return view.error().with_context(kv.key);
      last_key = kv.key;
      if (query.selective() && !matches(query, *view, std::string_view(kv.key).substr(prefix))) continue;
      ORC_TRY(item(kv, *view));
      if (query.limit > 0 && --left == 0) {
        done = true;
        return {};
      }
    }
    if (!page.more || page.items.empty() || range.single) {
      done = true;
      last_key.clear();
    } else {
      range.begin = page.items.back().key + '\0';
    }
    return {};
  }
};

std::string list_metadata(Revision revision, const std::string& token, std::uint64_t remaining) {
  std::string out = "{\"resourceVersion\":\"" + std::to_string(revision) + "\"";
  if (!token.empty()) out += ",\"continue\":\"" + token + "\"";
  if (remaining > 0) out += ",\"remainingItemCount\":" + std::to_string(remaining);
  return out + "}";
}

Result<std::uint64_t> count_behind(const ListWalk& walk) {
  KeyRange rest = walk.range;
  rest.begin = walk.last_key + '\0';
  RangeOptions options;
  options.count_only = true;
  ORC_ASSIGN(RangeResult counted, walk.snapshot.try_range(rest, options));
  return counted.count;
}

// All items of a page in the version of the request, by one question to the type's converter.
Result<std::vector<json::value>> converted_page(ListWalk& walk) {
  std::vector<json::value> items;
  ORC_TRY(walk.step(kRangePage, [&](const KeyValue& kv, const StoredView& view) -> Result<void> {
    ORC_ASSIGN(json::value tree,
               parse_json(json_with_revision(view, kv.mod_revision, walk.want.managed_fields)));
    items.push_back(std::move(tree));
    return {};
  }));
  const std::string api_version = walk.type->gvk(walk.version).api_version();
  std::map<std::string, std::vector<std::size_t>> others;  // by the version that they are in
  for (std::size_t i = 0; i < items.size(); ++i) {
    const std::string own = string_at(items[i], "/apiVersion");
    if (own != api_version) others[own].push_back(i);
  }
  for (const auto& [own, places] : others) {
    std::vector<json::value> some;
    for (const std::size_t place : places) some.push_back(items[place]);
    ORC_ASSIGN(auto done, walk.type->converter->convert(std::move(some), api_version));
    for (std::size_t i = 0; i < places.size(); ++i) items[places[i]] = std::move(done[i]);
  }
  const api::TypeVersion* version = walk.type->version(walk.version);
  for (json::value& item : items) ORC_TRY(api::from_stored(*walk.type, *version, item));  // prune, defaults
  std::erase_if(items,
                [&](const json::value& item) { return !matches_converted(walk.query, *walk.type, item); });
  return items;
}

// The whole page in memory: with a limit or selectors, in YAML, or when it is short.
Result<Reply> whole_list(ListWalk& walk, const std::string& api_version, const std::string& secret) {
  std::string items;
  while (!walk.done && walk.type->converter != nullptr) {
    ORC_ASSIGN(const auto page, converted_page(walk));
    for (const json::value& item : page) {
      if (!walk.first) items += ',';
      walk.first = false;
      append_row_or_object(items, *walk.type, walk.want, item, walk.now);
    }
  }
  while (!walk.done) {
    ORC_TRY(walk.step(kRangePage, [&](const KeyValue& kv, const StoredView& view) -> Result<void> {
      if (!walk.first && !walk.want.protobuf) items += ',';
      walk.first = false;
      return append_list_item(items, *walk.type, walk.version, walk.want, view, kv.mod_revision, walk.now);
    }));
  }
  std::string token;
  std::uint64_t remaining = 0;
  if (!walk.last_key.empty()) {
    ORC_ASSIGN(const std::uint64_t behind, count_behind(walk));
    if (behind > 0) {
      token = seal_continue({walk.snapshot.revision(), walk.last_key}, secret);
      if (!walk.query.selective()) remaining = behind;
    }
  }
  Reply reply;
  if (walk.want.protobuf) {
    ORC_ASSIGN(reply.body, protobuf_list(*walk.type, api_version, walk.want,
                                         list_metadata(walk.snapshot.revision(), token, remaining), items));
    reply.content_type = content_type_of(walk.want);
    return reply;
  }
  reply.body = list_opening(*walk.type, api_version, walk.want,
                            list_metadata(walk.snapshot.revision(), token, remaining));
  reply.body += items;
  reply.body += "]}";
  if (walk.want.form == Form::yaml || walk.want.pretty) {
    ORC_ASSIGN(const json::value tree, parse_json(reply.body));
    reply.body = walk.want.form == Form::yaml ? to_yaml(tree) : to_pretty_json(tree) + "\n";
  } else {
    reply.body += '\n';
  }
  reply.content_type = content_type_of(walk.want);
  return reply;
}

Reply long_list(ListWalk start, const std::string& api_version) {
  Reply reply;
  auto walk = std::make_shared<ListWalk>(std::move(start));
  auto opening = std::make_shared<std::string>(
      list_opening(*walk->type, api_version, walk->want, list_metadata(walk->snapshot.revision(), "", 0)));
  reply.more = [walk, opening]() -> std::optional<std::string> {
    if (walk->done) return std::nullopt;
    std::string chunk = std::move(*opening);
    opening->clear();
    chunk.reserve(kChunkBytes + (64 << 10));
    while (!walk->done && chunk.size() < kChunkBytes) {
      auto stepped = walk->step(64, [&](const KeyValue& kv, const StoredView& view) -> Result<void> {
        if (!walk->first) chunk += ',';
        walk->first = false;
        return append_list_item(chunk, *walk->type, walk->version, walk->want, view, kv.mod_revision,
                                walk->now);
      });
      // The snapshot expired under a very slow reader: the body ends in the middle, which clients notice.
      if (!stepped) {
        walk->done = true;
        return std::nullopt;
      }
    }
    if (walk->done) chunk += "]}\n";
    return chunk;
  };
  return reply;
}

Error expired_continue(const ListQuery&, const std::string& last_key, const std::string& secret) {
  const std::string token = seal_continue({0, last_key}, secret);
  Status status = api::make_status(
      410, "Expired",
      "The provided continue parameter is too old to display a consistent list result. You can start a new "
      "list "
      "without the continue parameter, or use the continue token in this response to retrieve the remainder "
      "of the "
      "results. Continuing with the provided token results in an inconsistent list - objects that were "
      "created, "
      "modified, or deleted between the time the first chunk was returned and now may show up in the list.");
  if (auto tree = parse_json(status.json)) {
    set_at(*tree, "/metadata/continue", json::value(token));
    status.json = to_json(*tree);
  }
  return api::status_error(std::move(status));
}
}  // namespace

// In process: the items as objects that all readers share.
namespace {
Result<Reply> object_list(ListWalk& walk, ApiCore& core) {
  Reply reply;
  ObjectList& out = reply.list.emplace();
  while (!walk.done) {
    ORC_TRY(walk.step(kRangePage, [&](const KeyValue& kv, const StoredView&) -> Result<void> {
      ORC_ASSIGN(Object object, core.object_in_version(*walk.type, walk.version, kv.value, kv.mod_revision));
      if (walk.query.fields_late && !matches_converted(walk.query, *walk.type, tree(object))) return {};
      out.items.push_back(std::move(object));
      return {};
    }));
  }
  out.resource_version = std::to_string(walk.snapshot.revision());
  if (!walk.last_key.empty()) {
    ORC_ASSIGN(const std::uint64_t behind, count_behind(walk));
    if (behind > 0) {
      out.continue_token =
          seal_continue({walk.snapshot.revision(), walk.last_key}, core.options().continue_secret);
    }
  }
  return reply;
}
}  // namespace

void ApiCore::set_computed(const std::string& group, const std::string& resource, ComputedSource source) {
  std::lock_guard lock(mutex_);
  computed_[group + "/" + resource] = std::move(source);
}

namespace {
/// Computed objects have no stored header: what selectors look at is in the tree.
bool matches_tree(const ListQuery& query, const json::value& item) {
  std::map<std::string, std::string> labels;
  if (const json::object* given = object_at(item, "/metadata/labels")) {
    for (const auto& [name, value] : *given) {
      if (value.is_string()) labels[name] = value.get_string();
    }
  }
  return query.labels.matches(labels) && query.fields.matches([&](std::string_view field) {
    return field == "metadata.name" || field == "metadata.namespace"
               ? std::string(api::meta_string(item, field.substr(std::string_view("metadata.").size())))
               : std::string();
  });
}
}  // namespace

void ApiCore::computed_read(const Call& call, const api::TypeRecord& type, const Answer& answer) {
  ComputedSource source;
  {
    std::lock_guard lock(mutex_);
    if (const auto found = computed_.find(type.group + "/" + type.plural); found != computed_.end())
      source = found->second;
  }
  json::array items;
  if (source) {
    auto objects = source(call.info.ns, call.info.name);
    if (!objects) return answer(error_reply(objects.error()));
    for (const Object& object : *objects) items.push_back(tree(object));
  } else if (auto own = api::compute_objects(type, {.store_healthy = store_->revision() > 0})) {
    items = std::move(*own);
  } else {
    return answer(error_reply(api::service_unavailable(
        type.qualified_resource() + " are computed by a component that is not part of this server")));
  }
  const Now now = engine_.clock().now();
  const std::string version = type.gvk(call.info.version).api_version();
  if (!call.info.name.empty()) {
    json::array named;
    for (json::value& item : items) {
      if (api::meta_string(item, "name") == call.info.name) named.push_back(std::move(item));
    }
    items = std::move(named);
    if (items.empty()) return answer(error_reply(api::not_found(type, call.info.name)));
    if (call.want.form != Form::table) return answer(tree_reply(*this, call, items.front(), 200));
  } else {
    const auto query = parse_list_query(type, call.info.query);
    if (!query) return answer(error_reply(query.error()));
    json::array chosen;
    for (json::value& item : items) {
      if (matches_tree(*query, item)) chosen.push_back(std::move(item));
    }
    items = std::move(chosen);
  }
  Reply reply;
  reply.body = list_opening(type, version, call.want, list_metadata(store_->revision(), "", 0));
  bool first = true;
  for (const json::value& item : items) {
    if (!first) reply.body += ',';
    first = false;
    append_row_or_object(reply.body, type, call.want, item, now);
  }
  reply.body += "]}\n";
  if (call.want_object) {
    ObjectList& list = reply.list.emplace();
    list.resource_version = std::to_string(store_->revision());
    for (json::value& item : items) list.items.push_back(object_from_tree(std::move(item)));
  }
  answer(std::move(reply));
}

void ApiCore::get(Call call, api::TypePtr type, Answer answer) {
  const api::Subresource* sub = nullptr;
  if (!call.info.subresource.empty()) {
    sub = type->subresource(call.info.subresource);
    if (sub == nullptr) return answer(error_reply(api::unknown_path()));
  }
  const bool local = query_value(call.info.query, "resourceVersion") == "0";
  const Consistency consistency = local ? Consistency::serializable : Consistency::linearizable;
  auto self = shared_from_this();
  auto pending = store_->snapshot(0, consistency);
  auto read = [self, call = std::move(call), type, answer](Result<Snapshot> snapshot) {
    if (!snapshot) return answer(error_reply(store_error(snapshot.error())));
    const View view(std::move(*snapshot));
    auto loaded = view.load(key_of(*type, call.info.ns, call.info.name));
    if (!loaded) return answer(error_reply(store_error(loaded.error())));
    if (!*loaded) return answer(error_reply(api::not_found(*type, call.info.name)));
    const SubresourceHook* hook =
        call.info.subresource.empty() ? nullptr : subresource_hook(*type, call.info.subresource);
    if (hook == nullptr || hook->read == nullptr) {
      return answer(object_reply(*self, *type, call, (*loaded)->kv.value, (*loaded)->kv.mod_revision, 200));
    }
    auto tree = (*loaded)->tree();
    if (!tree) return answer(error_reply(api::internal_error(tree.error().to_string())));
    auto shown = hook->read(*type, *tree);
    if (!shown) return answer(error_reply(shown.error()));
    answer(tree_reply(*self, call, *shown, 200));
  };
  pending.on_ready(
      [self, read = std::move(read), answer, waits = type->converter != nullptr](Result<Snapshot> snapshot) {
        if (!waits) return read(std::move(snapshot));
        self->run(
            true, [read, snapshot] { read(snapshot); },
            [answer](const Error& error) { answer(error_reply(error)); });
      });
}

void ApiCore::list(Call call, api::TypePtr type, Answer answer) {
  auto query = parse_list_query(*type, call.info.query);
  if (!query) return answer(error_reply(query.error()));
  if (const auto checked = check_version_match(*query); !checked) return answer(error_reply(checked.error()));
  KeyRange range = range_of(*type, call.info.ns, *query);
  Revision at = 0;
  Revision wait_for = 0;
  std::string last_key;
  if (!query->continue_token.empty()) {
    auto token = open_continue(query->continue_token, options_.continue_secret);
    if (!token) return answer(error_reply(api::bad_request(token.error().message())));
    if (!range.contains(token->last_key)) {
      return answer(error_reply(api::bad_request("continue key is not valid: it is of another list")));
    }
    at = token->revision;
    last_key = token->last_key;
    range.begin = last_key + '\0';
  } else if (!query->resource_version.empty()) {
    auto revision = parse_resource_version(query->resource_version);
    if (!revision) return answer(error_reply(revision.error()));
    if (*revision > store_->revision()) wait_for = *revision;
    if (query->version_match == "Exact") at = *revision;
  }
  const bool local = query->resource_version == "0" && query->version_match != "Exact";
  auto self = shared_from_this();
  auto read = [self, call = std::move(call), type, query = std::move(*query), range, at, last_key, local,
               answer]() mutable {
    auto pending = self->store_->snapshot(at, local ? Consistency::serializable : Consistency::linearizable);
    pending.on_ready([self, call = std::move(call), type, query = std::move(query), range = std::move(range),
                      last_key, answer](Result<Snapshot> snapshot) mutable {
      if (!snapshot) {
        const bool old = snapshot.error().is(Error::compacted);
        if (old && !last_key.empty()) {
          return answer(error_reply(expired_continue(query, last_key, self->options_.continue_secret)));
        }
        return answer(error_reply(store_error(snapshot.error())));
      }
      ListWalk walk{type,
                    call.info.version,
                    std::move(query),
                    call.want,
                    std::move(*snapshot),
                    std::move(range),
                    self->engine_.clock().now()};
      walk.prefix = objects_range(place_of(*type), "").begin.size();
      walk.left = walk.query.limit;
      if (!last_key.empty() && walk.range.single) walk.done = true;
      const std::string api_version = type->gvk(call.info.version).api_version();
      const bool in_pieces = walk.query.limit == 0 && walk.want.form != Form::yaml && !walk.want.pretty &&
                             !call.want_object && !walk.range.single && !walk.want.protobuf &&
                             type->converter == nullptr;
      if (in_pieces) {
        RangeOptions probe;
        probe.limit = kRangePage + 1;
        probe.keys_only = true;
        auto keys = walk.snapshot.try_range(walk.range, probe);
        if (keys && keys->items.size() > kRangePage) return answer(long_list(std::move(walk), api_version));
      }
      const bool waits = type->converter != nullptr;
      auto step = [self, answer, api_version, walk = std::make_shared<ListWalk>(std::move(walk)),
                   as_objects = call.want_object] {
        auto reply = as_objects ? object_list(*walk, *self)
                                : whole_list(*walk, api_version, self->options_.continue_secret);
        answer(reply ? std::move(*reply) : error_reply(store_error(reply.error())));
      };
      self->run(waits, std::move(step), [answer](const Error& error) { answer(error_reply(error)); });
    });
  };
  if (wait_for == 0) return read();
  store_->wait_revision(wait_for, kFutureWait)
      .on_ready([self, read, answer, wait_for](Result<void> here) mutable {
        if (here) return read();
        answer(error_reply(api::future_resource_version(std::to_string(wait_for),
                                                        std::to_string(self->store_->revision()))));
      });
}

}  // namespace orchestra::apiserver
