#pragma once
// ResourceQuota usage: what a namespace uses of what it may. Pure; see decide.cpp.
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "controllers/common/catalog.hpp"
#include "controllers/common/objects.hpp"
#include "orchestra/quantity.hpp"
#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {

/// The charge of one object: names of ResourceQuota ("requests.cpu", "count/jobs.batch", ...) to amounts.
using Charge = std::map<std::string, Quantity>;
Charge charge_of(const ResourceRef& resource, const Object& object);
/// The scopes and scopeSelector of a quota hold for a pod; for other objects only a quota without any does.
bool quota_covers(const json::value& quota, const ResourceRef& resource, const Object& object);

std::shared_ptr<const Reconciler> make_quota_reconciler(std::vector<KnownResource> catalog);

}  // namespace orchestra::controllers
