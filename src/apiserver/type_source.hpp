#pragma once
// Keeps the registry in step with the definitions of types that clients store (custom resources), their
// status, and one object per served group version (APIServices).
//
// It watches the place of the types whose record says `defines_types`; what a definition means is decided in
// src/api/crd, purely. Every change looks at all definitions again: they are few, and so nothing can be
// missed. Two servers on one store come to the same result, since the order of creation decides.
#include <memory>
#include <mutex>

#include "apiserver/core.hpp"
#include "orchestra/client.hpp"

namespace orchestra::apiserver {

class TypeSource : public std::enable_shared_from_this<TypeSource> {
 public:
  explicit TypeSource(std::shared_ptr<ApiCore> core);
  /// Reads what is there and sets the registry. Blocks.
  Result<void> start();
  void stop();

 private:
  struct Definition {
    json::value object;
    std::string name;
  };
  void arm();
  void listen(Watch& watch);
  void changed();
  void again(Duration after);
  Result<std::vector<Definition>> read() const;
  void sync();
  void write_status(const json::value& object);
  bool remove_objects(const json::value& definition, const api::TypePtr& type);
  void publish_versions(const std::shared_ptr<const api::TypeRegistry>& registry);

  std::shared_ptr<ApiCore> core_;
  api::TypePtr definitions_, services_;
  Client client_;
  std::mutex mutex_;
  std::shared_ptr<Watch> watch_;
  bool running_ = false, pending_ = false, stopped_ = true;
  Engine::TimerId timer_ = 0;
};

}  // namespace orchestra::apiserver
