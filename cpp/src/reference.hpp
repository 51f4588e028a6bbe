// The expected answers: the Bundle's reference logits, and the images that they belong to.
#pragma once

#include <vector>

#include "bundle.hpp"

namespace vertebra {

// Images (N, 3, H, W) of the Bundle's reference batch: numpy's PCG64 on any machine.
std::vector<float> reference_images(const Bundle& bundle);

// Logits (N, num_classes) that the original network gave for them. Throws Error if they can't be read.
std::vector<float> reference_logits(const Bundle& bundle);

// Whether the network ends in a softmax: its answers to noise are probabilities that add up to one.
bool gives_probabilities(const Bundle& bundle, const std::vector<float>& logits);

// The largest difference of the logits, relative to the spread of the reference.
double output_error(const Bundle& bundle, const std::vector<float>& reference, const std::vector<float>& got);

}  // namespace vertebra
