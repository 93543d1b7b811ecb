// Actions, views and decisions: the small vocabulary between pure controllers and the runner.
#include <algorithm>

#include "orchestra/reconciler.hpp"

namespace orchestra {

Duration Observed::elapsed(Now now, std::int64_t stamp_ns) const {
  const std::int64_t since = std::max<std::int64_t>(0, now.steady_ns - at.steady_ns);
  return Duration(since + (witnessed ? 0 : std::max<std::int64_t>(0, at.wall_ns - stamp_ns)));
}

std::optional<Observed> View::observed(const ResourceRef&, const ObjectKey&) const { return std::nullopt; }

Object View::get(const ResourceRef& resource, const std::string& ns, const std::string& name) const {
  const ObjectCache* objects = cache(resource);
  return objects == nullptr ? Object() : objects->get(ns, name);
}
std::vector<Object> View::list(const ResourceRef& resource, const std::string& ns) const {
  const ObjectCache* objects = cache(resource);
  return objects == nullptr ? std::vector<Object>() : objects->list(ns);
}
std::vector<Object> View::list(const ResourceRef& resource) const {
  const ObjectCache* objects = cache(resource);
  return objects == nullptr ? std::vector<Object>() : objects->list();
}
std::vector<Object> View::find(const ResourceRef& resource, const std::string& index,
                               const std::string& value) const {
  const ObjectCache* objects = cache(resource);
  return objects == nullptr ? std::vector<Object>() : objects->find(index, value);
}
std::vector<Object> View::select(const ResourceRef& resource, const std::string& ns,
                                 const LabelMatcher& matches, const LabelViews& having) const {
  const ObjectCache* objects = cache(resource);
  return objects == nullptr ? std::vector<Object>() : objects->select(ns, matches, having);
}
std::vector<Object> View::select_orphans(const ResourceRef& resource, const std::string& ns,
                                         const LabelMatcher& matches, const LabelViews& having) const {
  const ObjectCache* objects = cache(resource);
  return objects == nullptr ? std::vector<Object>() : objects->select_orphans(ns, matches, having);
}

namespace {
const char* verb_name(Action::Verb verb) {
  switch (verb) {
    case Action::Verb::create:
      return "create";
    case Action::Verb::update:
      return "update";
    case Action::Verb::patch:
      return "patch";
    case Action::Verb::remove:
      return "remove";
    case Action::Verb::event:
      return "event";
  }
  return "?";
}
}  // namespace

std::string Action::describe() const {
  if (verb == Verb::event) {
    return "event " + event_type + " " + event_reason + " on " + object.kind() + " " +
           ObjectKey::of(object).text() + ": " + event_message;
  }
  std::string text = std::string(verb_name(verb)) + " " + resource.resource;
  if (!subresource.empty()) text += "/" + subresource;
  text += " ";
  if (!name.empty()) {
    text += ObjectKey{ns, name}.text();
  } else {
    text += ObjectKey{ns, object.get("/metadata/generateName").value_or("") + "*"}.text();
  }
  if (!reason.empty()) text += ": " + reason;
  return text;
}

Action& Actions::create(ResourceRef resource, Object object, std::string why) {
  Action action;
  action.verb = Action::Verb::create;
  action.resource = std::move(resource);
  action.ns = object.ns();
  action.name = object.name();
  action.object = std::move(object);
  action.reason = std::move(why);
  return list.emplace_back(std::move(action));
}

Action& Actions::update(ResourceRef resource, Object object, std::string why) {
  Action& action = create(std::move(resource), std::move(object), std::move(why));
  action.verb = Action::Verb::update;
  return action;
}

Action& Actions::update_status(ResourceRef resource, Object object, std::string why) {
  Action& action = update(std::move(resource), std::move(object), std::move(why));
  action.subresource = "status";
  return action;
}

Action& Actions::remove(ResourceRef resource, const Object& object, std::string why, bool exact) {
  Action action;
  action.verb = Action::Verb::remove;
  action.resource = std::move(resource);
  action.ns = object.ns();
  action.name = object.name();
  action.uid = object.uid();
  if (exact) action.resource_version = object.resource_version();
  action.reason = std::move(why);
  return list.emplace_back(std::move(action));
}

Action& Actions::event(const Object& about, std::string type, std::string event_reason, std::string message) {
  Action action;
  action.verb = Action::Verb::event;
  action.object = about;
  action.ns = about.ns();
  action.event_type = std::move(type);
  action.event_reason = std::move(event_reason);
  action.event_message = std::move(message);
  return list.emplace_back(std::move(action));
}

void Actions::requeue(Duration after) {
  if (!requeue_after || after < *requeue_after) requeue_after = after;
}

Source watch_self(ResourceRef resource) {
  return {std::move(resource), false,
          [](const View&, const Object& old, const Object& now, const KeySink& wake) {
            wake(ObjectKey::of(now ? now : old).text());
          }};
}

Source watch_owned(ResourceRef resource, std::string owner_api_version, std::string owner_kind) {
  return {std::move(resource), false,
          [api_version = std::move(owner_api_version), kind = std::move(owner_kind)](
              const View&, const Object& old, const Object& now, const KeySink& wake) {
            for (const Object* object : {&old, &now}) {
              if (!*object) continue;
              const OwnerReference* owner = object->controller();
              if (owner == nullptr || owner->kind != kind || owner->api_version != api_version) continue;
              wake(ObjectKey{object->ns(), owner->name}.text());
            }
          }};
}

Actions Reconciler::failed(const std::string&, const View&, Now, const Action&, const Error&) const {
  return {};
}

std::string ReconcileDecision::explain() const {
  std::string text = controller + " " + key + ": " + (reason.empty() ? "nothing to do" : reason);
  for (const std::string& action : actions) text += "\n  " + action;
  if (!error.empty()) text += "\n  failed: " + error;
  if (requeue_after) {
    text += "\n  looks again in " +
            std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(*requeue_after).count()) +
            " ms";
  }
  if (!seen.empty()) {
    text += "\n  saw";
    for (const auto& [resource, revision] : seen) text += " " + resource + "@" + std::to_string(revision);
  }
  return text;
}

}  // namespace orchestra
