#pragma once
// Discovery and OpenAPI documents, made when first asked for and kept as long as the registry stays the
// same; large ones also compressed.
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "api/types.hpp"
#include "apiserver/http_front.hpp"

namespace orchestra::apiserver {

struct HttpFront::Documents {
  struct Document {
    std::string body, compressed, etag;
  };
  /// The document `name` of this registry; `make` is called where it is not there yet. An empty body: none.
  std::shared_ptr<const Document> get(const std::shared_ptr<const api::TypeRegistry>& registry,
                                      const std::string& name, const std::function<std::string()>& make);

 private:
  std::mutex mutex_;
  std::shared_ptr<const api::TypeRegistry> registry_;
  std::map<std::string, std::shared_ptr<const Document>> documents_;
};

}  // namespace orchestra::apiserver
