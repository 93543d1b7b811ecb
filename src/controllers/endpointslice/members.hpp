#pragma once
// The pods behind a Service, with the port numbers they resolve to. Shared by EndpointSlice and Endpoints.
#include <string>
#include <vector>

#include "controllers/common/objects.hpp"
#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {

inline constexpr const char* kServiceName = "kubernetes.io/service-name";
inline constexpr const char* kHeadless = "service.kubernetes.io/headless";

struct Member {
  Object pod;
  std::string address;
  json::array ports;  ///< [{name, port, protocol, appProtocol}] as both kinds write them
  bool ready = false, serving = false, terminating = false;
};

bool has_selector(const Object& service);
/// Members of one address family ("IPv4", "IPv6"), by pod name. Terminating pods are among them.
std::vector<Member> members_of(const Object& service, const std::string& family, const View& view);
/// Families of a service: spec.ipFamilies, else that of its cluster IP, else IPv4.
std::vector<std::string> families_of(const Object& service);
/// {"kind": "Pod", ...}
json::object target_reference(const Object& pod);
/// Wakes the services whose selectors match a pod before or after a change that matters to endpoints.
Source watch_pods_of_services();

}  // namespace orchestra::controllers
