// Any objects at all, through every controller and the scheduler: an object that an older or newer server
// stored, or that nobody validated, may be refused or ignored, but never ends the program, and every action
// names a resource and an object. The input is a stream of YAML documents.
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <string_view>

#include "controllers/builtin.hpp"
#include "controllers/common/objects.hpp"
#include "orchestra/client.hpp"
#include "orchestra/scheduling_snapshot.hpp"

namespace {

using namespace orchestra;

class Objects final : public View {
 public:
  const ObjectCache* cache(const ResourceRef& resource) const override { return &slot(resource); }
  ObjectCache& slot(const ResourceRef& resource) const {
    auto& cache = caches_[resource];
    if (!cache) cache = std::make_unique<ObjectCache>();
    return *cache;
  }

 private:
  mutable std::map<ResourceRef, std::unique_ptr<ObjectCache>> caches_;
};

void decide_all(const Reconciler& reconciler, const Objects& view, const std::vector<Object>& objects) {
  const Now now{1'767'225'600'000'000'000, 1'000'000'000'000};
  for (const Source& source : reconciler.sources()) {
    if (!source.keys) continue;
    for (const Object& object : view.slot(source.resource).list()) {
      for (const Object& other : {Object(), objects.front(), object}) {
        source.keys(view, other, object, [&](const std::string& key) {
          const Actions actions = reconciler.decide(key, view, now);
          for (const Action& action : actions.list) {
            if (action.describe().empty()) std::abort();
            if (action.verb != Action::Verb::event && action.resource.resource.empty()) std::abort();
          }
        });
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kInputMax = 64 * 1024;
  if (size > kInputMax) return 0;
  const auto parsed = Object::many_from_yaml({reinterpret_cast<const char*>(data), size});
  if (!parsed || parsed->empty() || parsed->size() > 50) return 0;
  Objects view;
  SchedulingSnapshot snapshot;
  for (const Object& object : *parsed) {
    view.slot({object.api_version(), resource_of_kind(object.api_version(), object.kind())}).put(object);
    if (object.kind() == "Node") snapshot.set_node(NodeShape::from_object(object));
  }
  controllers::BuiltinOptions options;
  options.root_ca_pem = "PEM";
  options.catalog = controllers::builtin_catalog();
  for (const std::string& name : controllers::builtin_names()) {
    decide_all(*controllers::make_reconciler(name, options), view, *parsed);
  }
  for (const Object& pod : view.slot(controllers::pods()).list()) {
    const PodShape shape = PodShape::from_object(pod);
    const Decision decision = place(snapshot, shape);
    if (const Placement* at = decision.placement()) {
      if (!fits(snapshot, shape, at->node)) std::abort();
      snapshot.assume(shape, at->node);
    } else if (decision.unschedulable()->message().empty()) {
      std::abort();
    }
  }
  return 0;
}
