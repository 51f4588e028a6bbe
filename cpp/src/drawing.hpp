// Drawn parameters: the rule of vertebra's drawing.py, bit for bit, from names alone. A program that has a
// network's graph makes the parameters that it is measured with, and needs no file of weights.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vertebra {

struct Scale {
  float centre;
  float width;  // half of the range
};

// Centre and half-width of a parameter's values; `level` is the network's own in levels.json, or 1.
inline Scale scale_of(std::string_view key, const std::vector<std::int64_t>& shape, double level = 1) {
  if (key == "images") return {0.0F, static_cast<float>(std::sqrt(3.0))};
  const auto dot = key.rfind('.');
  const auto kind = dot == std::string_view::npos ? key : key.substr(dot + 1);
  if (kind == "running_var") return {1.0F, 0.5F};
  if (kind == "running_mean") return {0.0F, 0.25F};
  if (shape.size() < 2 || kind == "gain") {
    const bool is_bias = kind.find("bias") != std::string_view::npos;
    return {is_bias ? 0.0F : static_cast<float>(level), 0.25F};
  }
  std::int64_t inputs = 1;
  for (std::size_t axis = 1; axis < shape.size(); ++axis) inputs *= shape[axis];
  return {0.0F, static_cast<float>(std::sqrt(4.5 / static_cast<double>(std::max<std::int64_t>(1, inputs))))};
}

// The 32-bit FNV-1a hash of NETWORK/KEY in UTF-8.
inline std::uint32_t seed(std::string_view network, std::string_view key) {
  std::uint32_t number = 0x811C9DC5;
  for (const char byte : std::string(network) + '/' + std::string(key))
    number = (number ^ static_cast<unsigned char>(byte)) * 0x01000193;
  return number;
}

// One number of the parameter `key`, in row-major order; each is independent of all others.
inline float drawn(std::uint32_t seed, std::uint32_t element, const Scale& scale) {
  std::uint32_t number = seed + element * 0x9E3779B9U;
  number = (number ^ (number >> 16)) * 0x85EBCA6BU;
  number = (number ^ (number >> 13)) * 0xC2B2AE35U;
  number ^= number >> 16;
  const double uniform = (2.0 * (number >> 8) + 1 - 16777216) / 16777216;
  // Exact in double, then rounded: a compiler that fuses a product and a sum can't round otherwise.
  const float product = static_cast<float>(scale.width * uniform);
  return static_cast<float>(static_cast<double>(scale.centre) + product);
}

// The parameter `key`, its name in the state dict, of a network.
inline std::vector<float> draw(std::string_view network, std::string_view key,
                               const std::vector<std::int64_t>& shape, double level = 1) {
  std::size_t count = 1;
  for (const auto extent : shape) count *= static_cast<std::size_t>(extent);
  const Scale scale = scale_of(key, shape, level);
  const std::uint32_t start = seed(network, key);
  std::vector<float> values(count);
  for (std::size_t element = 0; element < count; ++element)
    values[element] = drawn(start, static_cast<std::uint32_t>(element), scale);
  return values;
}

}  // namespace vertebra
