#pragma once
// Image operations as JSON: one implementation for the command line, whether the store is opened by it or
// owned by a running process that answers on its control socket.
//
//   image.ls {}                                  -> {"image": {...}} per image
//   image.inspect {name, what: "", manifest, config} -> {"image": {...}} or {"text": "..."}
//   image.rm {names}   image.tag {from, to}      -> {"removed": NAME}, {"image": {...}}
//   image.import {path, name, platform}          -> {"image": {...}} per image
//   image.export {path, names, format: oci|docker}
//   image.pull {reference, platform, user, password, docker_configs, plain_http, ca_pem}
//   image.push {reference, destination, and the same}  -> {"text": NAME@DIGEST}
//   image.build {context, dockerfile, tag, target, build_args, no_cache, network}
//   image.gc {dry_run, bytes_max}                -> {"removed": WHAT} .., {"bytes": N}
// Long ones send {"progress": LINE} in between.
#include <functional>
#include <memory>

#include "api/image_service.hpp"
#include "base/http_client.hpp"
#include "base/json.hpp"
#include "orchestra/image_store.hpp"

namespace orchestra {

class ControlServer;

/// How RUN steps run, for those who build; made once by whoever owns both areas.
struct ImageStepRunner {
  std::shared_ptr<StepRunner> runner;
  Isolation isolation = Isolation::full;
};

namespace image {
using SendLine = std::function<bool(const json::object&)>;
Result<void> run_image_op(const std::shared_ptr<ImageStore>& store, const ImageStepRunner& steps,
                          const json::object& request, const SendLine& send);
json::object describe_image(const ImageInfo& info);
}  // namespace image

/// Answers all operations above on `server`.
ORC_API void register_image_ops(ControlServer& server, std::shared_ptr<ImageStore> store,
                                ImageStepRunner steps = {});

}  // namespace orchestra
