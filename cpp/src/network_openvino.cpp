#include "network.hpp"

#include <cstring>

#include <openvino/openvino.hpp>

namespace vertebra {

struct Network::Parts {
  ov::Core core;
  ov::CompiledModel compiled;
  ov::InferRequest request;
};

Network::Network(const Bundle& bundle, int batch_size, int threads) : parts_(std::make_unique<Parts>()) {
  bundle.check(batch_size, {"onnx", "openvino"});
  const auto side = static_cast<std::size_t>(bundle.input_size);
  // The precision is fixed: by default, OpenVINO computes in bfloat16 if the processor can.
  ov::AnyMap settings{ov::hint::inference_precision(ov::element::f32),
                      ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY), ov::num_streams(1)};
  if (threads > 0) settings.insert(ov::inference_num_threads(threads));
  try {
    auto model = parts_->core.read_model(bundle.network.string());
    model->reshape(ov::PartialShape(ov::Shape{static_cast<std::size_t>(batch_size), 3, side, side}));
    parts_->compiled = parts_->core.compile_model(model, "CPU", settings);
    parts_->request = parts_->compiled.create_infer_request();
  } catch (const ov::Exception& error) {
    throw Error("OpenVINO can't load " + bundle.network.string() + ": " + error.what());
  }
}

Network::~Network() = default;

void Network::set_images(const std::vector<float>& images) {
  ov::Tensor tensor = parts_->request.get_input_tensor();
  if (tensor.get_size() != images.size()) throw Error("the network takes pictures of another size");
  std::memcpy(tensor.data<float>(), images.data(), images.size() * sizeof(float));
}

void Network::run() { parts_->request.infer(); }

std::vector<float> Network::logits() const {
  const ov::Tensor tensor = parts_->request.get_output_tensor();
  const auto* values = tensor.data<float>();
  return {values, values + tensor.get_size()};
}

int Network::threads() const {
  return static_cast<int>(parts_->compiled.get_property(ov::inference_num_threads));
}

std::string Network::engine() { return "openvino"; }

std::string Network::library() { return "openvino"; }

std::string Network::version() { return ov::get_openvino_version().buildNumber; }

}  // namespace vertebra
