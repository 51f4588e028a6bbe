#include "answer.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace vertebra {

std::vector<double> probabilities(const float* logits, int count, bool are_probabilities) {
  std::vector<double> shares(logits, logits + count);
  if (are_probabilities) return shares;
  const double largest = *std::max_element(shares.begin(), shares.end());
  for (double& share : shares) share = std::exp(share - largest);
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (double& share : shares) share /= sum;
  return shares;
}

std::vector<int> best(const std::vector<double>& shares, int count) {
  std::vector<int> order(shares.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int left, int right) {
    return shares[static_cast<std::size_t>(left)] > shares[static_cast<std::size_t>(right)];
  });
  order.resize(std::min(order.size(), static_cast<std::size_t>(count)));
  return order;
}

}  // namespace vertebra
