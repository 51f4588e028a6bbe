// How long the network takes here, as rows that `vertebra cite` reads.
#pragma once

#include <string>

#include "bundle.hpp"

namespace vertebra {

struct BenchOptions {
  int batch_size = 1;
  int threads = 0;  // 0: the engine chooses
  double seconds = 10;
  std::string system;  // this machine's name in the rows
};

// The rows as JSON in vertebra's exchange format. Throws Error if the network's answers are wrong.
std::string bench(const Bundle& bundle, const BenchOptions& options);

}  // namespace vertebra
