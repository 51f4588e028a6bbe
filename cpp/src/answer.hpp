// From logits to the likeliest classes.
#pragma once

#include <vector>

namespace vertebra {

// Softmax in double, or the values themselves where the network ends in one.
std::vector<double> probabilities(const float* logits, int count, bool are_probabilities);

// Indices of the largest, of equal ones the lower first.
std::vector<int> best(const std::vector<double>& shares, int count);

}  // namespace vertebra
