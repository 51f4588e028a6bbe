// The Preprocess record carried out, in the arithmetic of vertebra's own implementation.
#pragma once

#include <vector>

#include "bundle.hpp"
#include "jpeg.hpp"

namespace vertebra {

// The network's input (3, H, W) of a decoded picture.
std::vector<float> preprocess(const Picture& picture, const Preprocess& record);

}  // namespace vertebra
