#pragma once
// What an image is to the rest of the library: values without behaviour, shared by the image store, the
// node agent and the runtime. Since 0.1.
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "orchestra/error.hpp"

namespace orchestra {

/// How far a container is kept apart from the machine (DESIGN.md section 2.7).
enum class Isolation : std::uint8_t { full, rootless, process };

/// Mounts of a root file system as data: done by the runtime in the container's mount namespace.
struct MountPlan {
  /// Absolute path of a ready directory; used as the root when `overlay_lower` is empty.
  std::string directory;
  /// Overlay: mounted with `layers_directory` as working directory, so lowers may be short and relative.
  std::string layers_directory;
  std::vector<std::string> overlay_lower;   ///< top first, relative to layers_directory
  std::string overlay_upper, overlay_work;  ///< absolute
  bool userxattr = false;
};

/// HEALTHCHECK of an image: an extension of Docker's, kept in the configuration. Kubernetes has probes
/// instead; `orchestra image inspect` shows the probe that says the same.
struct ImageHealthCheck {
  std::vector<std::string> test;  ///< as written: {"CMD", ..}, {"CMD-SHELL", ..}, {"NONE"}; empty: none
  std::int64_t interval_ns = 0, timeout_ns = 0, start_period_ns = 0;  ///< 0: Docker's default
  int retries = 0;
};

/// The part of an OCI image configuration that a container needs, and what a Node reports.
struct ImageInfo {
  std::string id;         ///< digest of the configuration: sha256:...
  std::string digest;     ///< digest of the manifest
  std::string reference;  ///< canonical
  std::string pinned;     ///< NAME@sha256:...: imageID of a container status
  std::vector<std::string> names;
  std::vector<std::string> entrypoint, command, env;
  std::string user, working_directory, stop_signal;
  std::vector<std::string> exposed_ports, volumes;
  std::map<std::string, std::string> labels;
  ImageHealthCheck health_check;
  std::string architecture, os;
  std::uint64_t bytes = 0;
};

struct RegistryCredentials {
  std::string user, password;
  std::string token = {};           ///< sent as it is (Bearer)
  std::string identity_token = {};  ///< refresh token of OAuth2, exchanged at the token service
};
enum class PullPolicy : std::uint8_t { always, if_not_present, never };
struct PullRequest {
  std::string reference;
  PullPolicy policy = PullPolicy::if_not_present;
  /// `.dockerconfigjson` texts, tried by the kubelet's matching rules.
  std::vector<std::string> docker_configs;
};

}  // namespace orchestra
