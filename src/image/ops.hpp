#pragma once
// Image operations as JSON: one implementation for the command line, whether the store is opened by it or
// owned by a running process that answers on its control socket.
//
//   image.ls {}                                  -> {"image": {...}} per image
//   image.inspect {name, what: "", manifest, config} -> {"image": {...}} or {"text": "..."}
//   image.rm {names}   image.tag {from, to}      -> {"removed": NAME}, {"image": {...}}
//   image.import {path, name, platform, root_file_system}  -> {"image": {...}} per image
//   image.export {path, names, format: oci|docker|layout}
//   image.pull {reference, platform, all_platforms, user, password, login_files, plain_http, insecure,
//   ca_pem} image.push {reference, destination, chunk_bytes, and the same}  -> {"text": NAME@DIGEST}
//   image.login {host, user, password, ..}       asks the registry whether it takes the login
//   image.build {context, dockerfile, tag, target, build_args, no_cache, network, platforms, labels,
//                annotations, secrets, ssh, outputs, cache_from, cache_to, epoch, explain}
//   image.gc {dry_run, bytes_max, minimum_age_s, maximum_age_s}  -> {"removed": WHAT} .., {"bytes": N}
//   image.verify {}                              -> {"problem": TEXT} .., {"verified": {...}}
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
/// The Kubernetes probe that does what a HEALTHCHECK says; empty for NONE.
json::object probe_of(const ImageHealthCheck& check);
}  // namespace image

/// Answers all operations above on `server`.
ORC_API void register_image_ops(ControlServer& server, std::shared_ptr<ImageStore> store,
                                ImageStepRunner steps = {});

}  // namespace orchestra
