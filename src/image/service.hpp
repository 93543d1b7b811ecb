#pragma once
// The ImageService of the node agent over a Store.
#include <memory>

#include "api/image_service.hpp"
#include "image/store.hpp"

namespace orchestra::image {

std::shared_ptr<ImageService> make_image_service(std::shared_ptr<Store> store);

}  // namespace orchestra::image
