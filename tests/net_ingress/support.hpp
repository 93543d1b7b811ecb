#pragma once
// Ingress objects and what stands behind them, from short text.
#include <string>
#include <vector>

#include "orchestra/network_snapshot.hpp"

namespace orchestra::test {

/// Collects objects; synced in all inputs. Endpoints may be on 127.0.0.0/8.
class SnapshotBuilder {
 public:
  SnapshotBuilder();
  /// spec is JSON; created orders Ingresses by age.
  SnapshotBuilder& ingress(const std::string& name, const std::string& spec,
                           const std::string& created = "2026-01-01T00:00:00Z",
                           const std::string& annotations = "{}");
  /// A Service with port 80 named http and these endpoints "ip:port", each with conditions JSON behind a
  /// space.
  SnapshotBuilder& service(const std::string& name, const std::vector<std::string>& endpoints);
  SnapshotBuilder& ingress_class(const std::string& name, const std::string& controller, bool is_default);
  SnapshotBuilder& tls_secret(const std::string& name, const std::string& certificate, const std::string& key,
                              const std::string& version = "1");
  SnapshotBuilder& object(NetworkInput NetworkInputs::*input, const std::string& json);
  std::shared_ptr<const NetworkSnapshot> build() const { return NetworkSnapshot::build(inputs_); }
  NetworkInputs& inputs() { return inputs_; }

 private:
  NetworkInputs inputs_;
};

/// {"rules":[{"host":..,"http":{"paths":[..]}}]}: each path is "Exact /a service" or "Prefix /a service".
std::string rules(const std::string& host, const std::vector<std::string>& paths);

}  // namespace orchestra::test
