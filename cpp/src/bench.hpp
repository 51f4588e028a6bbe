// How long the network takes here, as rows that `vertebra cite` takes in.
#pragma once

#include <string>

#include "bundle.hpp"

namespace vertebra {

struct BenchOptions {
  int batch_size = 1;
  int threads = 0;  // 0: as the engine chooses
  double seconds = 10;
  std::string system;  // what the rows call this machine
};

// The rows as JSON in vertebra's exchange format. Raises Error where the network's answers are wrong.
std::string bench(const Bundle& bundle, const BenchOptions& options);

}  // namespace vertebra
