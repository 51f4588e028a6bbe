// The network, ready to answer: one stream over all threads, in float32. The engine is chosen when building:
// network_openvino.cpp or network_aotinductor.cpp.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bundle.hpp"

namespace vertebra {

class Network {
 public:
  // Throws Error if the engine can't load it. With `threads` 0 the engine chooses their number.
  Network(const Bundle& bundle, int batch_size, int threads);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  // Images (N, 3, H, W), N the batch size, for the following runs.
  void set_images(const std::vector<float>& images);
  void run();
  // Logits (N, num_classes) of the last run.
  std::vector<float> logits() const;

  int threads() const;
  static std::string engine();
  static std::string library();
  static std::string version();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace vertebra
