// A Bundle: the folder that `vertebra export` writes.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace vertebra {

// Anything that a user can fix: printed in one line.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class Interpolation { bilinear, bicubic, lanczos, opencv_bilinear };
enum class Rounding { floor, nearest };

struct Size {
  int height;
  int width;
};

// What happens to a picture between its file and the network's input; see docs/preprocess.md.
struct Preprocess {
  Size input_size;
  std::optional<Size> exact_size;  // else the shorter side becomes `shorter_side`
  int shorter_side;
  Interpolation interpolation;
  Rounding resize_rounding;
  Rounding crop_rounding;
  std::array<float, 3> mean;
  std::array<float, 3> std;
  bool apply_orientation;
};

struct Label {
  std::string id;  // empty if the label set has none
  std::string name;
};

struct Bundle {
  std::filesystem::path folder;
  std::filesystem::path network;
  std::string model;
  std::string weights;  // empty if untrained
  std::string format;
  std::string precision;
  std::string outputs;  // "logits", "probabilities", ...; empty: the reference shows it
  int batch_size;  // the only one that the network takes; 0 if it takes any
  Preprocess preprocess;
  std::vector<Label> labels;  // empty if the Bundle has none
  int num_classes;
  int in_channels;
  int input_size;
  std::uint64_t reference_seed;
  int reference_batch;

  // Throws Error if the network is in none of the formats, or takes other batches.
  void check(int images, const std::vector<std::string>& formats) const;
};

// Throws Error if the folder is not a Bundle, is incomplete, or is not for this program.
Bundle read_bundle(const std::filesystem::path& folder);

}  // namespace vertebra
