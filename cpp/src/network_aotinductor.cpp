#include "network.hpp"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/version.h>

namespace vertebra {

struct Network::Parts {
  torch::inductor::AOTIModelPackageLoader package;
  at::Tensor images;
  at::Tensor logits;
};

Network::Network(const Bundle& bundle, int batch_size, int threads) {
  bundle.check(batch_size, {"aotinductor"});
  if (threads > 0) at::set_num_threads(threads);
  const int side = bundle.input_size;
  try {
    parts_.reset(new Parts{torch::inductor::AOTIModelPackageLoader(bundle.network.string()),
                           at::zeros({batch_size, 3, side, side}, at::kFloat), {}});
  } catch (const c10::Error& error) {
    throw Error("torch can't load " + bundle.network.string() + ": " + error.what_without_backtrace());
  } catch (const std::exception& error) {
    throw Error("torch can't load " + bundle.network.string() + ": " + error.what());
  }
}

Network::~Network() = default;

void Network::set_images(const std::vector<float>& images) {
  if (static_cast<std::size_t>(parts_->images.numel()) != images.size()) {
    throw Error("the network takes pictures of another size");
  }
  std::copy(images.begin(), images.end(), parts_->images.mutable_data_ptr<float>());
}

void Network::run() {
  const c10::InferenceMode mode;
  parts_->logits = parts_->package.run({parts_->images}).at(0);
}

std::vector<float> Network::logits() const {
  const at::Tensor values = parts_->logits.contiguous();
  return {values.const_data_ptr<float>(), values.const_data_ptr<float>() + values.numel()};
}

int Network::threads() const { return at::get_num_threads(); }

std::string Network::engine() { return "aotinductor"; }

std::string Network::library() { return "torch"; }

std::string Network::version() { return TORCH_VERSION; }

}  // namespace vertebra
