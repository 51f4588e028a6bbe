// From logits to the most likely classes.
#pragma once

#include <vector>

namespace vertebra {

// Softmax in double, or the values themselves if the network ends in one.
std::vector<double> probabilities(const float* logits, int count, bool are_probabilities);

// Indices of the largest values; of equal ones, the lower first.
std::vector<int> best(const std::vector<double>& shares, int count);

}  // namespace vertebra
