// The table of builtin controllers.
#include "controllers/builtin.hpp"

#include <functional>

#include "controllers/deployment/decide.hpp"
#include "controllers/replicaset/decide.hpp"

namespace orchestra::controllers {

namespace {
struct Builtin {
  std::string name;
  std::function<std::shared_ptr<const Reconciler>(const BuiltinOptions&)> make;
};
const std::vector<Builtin>& builtins() {
  static const std::vector<Builtin> all = {
      {"deployment", [](const BuiltinOptions&) { return make_deployment_reconciler(); }},
      {"replicaset", [](const BuiltinOptions&) { return make_replica_set_reconciler(); }},
  };
  return all;
}
}  // namespace

const std::vector<std::string>& builtin_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const Builtin& builtin : builtins()) list.push_back(builtin.name);
    return list;
  }();
  return names;
}

std::shared_ptr<const Reconciler> make_reconciler(const std::string& name, const BuiltinOptions& options) {
  for (const Builtin& builtin : builtins()) {
    if (builtin.name == name) return builtin.make(options);
  }
  return nullptr;
}

}  // namespace orchestra::controllers
