#pragma once
// Conversion of custom objects by webhook (apiextensions.k8s.io/v1 ConversionReview).
#include <memory>

#include "api/types.hpp"
#include "apiserver/core.hpp"

namespace orchestra::apiserver {

/// The converter that a definition's `spec.conversion` asks for; null: versions differ by apiVersion only.
std::shared_ptr<const api::ObjectConverter> converter_of(const std::shared_ptr<ApiCore>& core,
                                                         const json::value& definition);

}  // namespace orchestra::apiserver
