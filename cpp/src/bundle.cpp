#include "bundle.hpp"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

namespace vertebra {
namespace {

using json = nlohmann::json;
namespace fs = std::filesystem;

constexpr int kSchema = 2;
constexpr int kRecordVersion = 1;

json parse(const fs::path& path) {
  std::ifstream stream(path);
  if (!stream) throw Error(path.string() + " can't be read; export the network again with: vertebra export");
  try {
    return json::parse(stream);
  } catch (const json::exception& error) {
    throw Error(path.string() + " is not JSON: " + error.what());
  }
}

template <typename Value>
Value choice(const json& record, const char* key, const std::vector<std::pair<const char*, Value>>& known) {
  const auto value = record.at(key).get<std::string>();
  for (const auto& [name, result] : known) {
    if (value == name) return result;
  }
  throw Error(std::string("Preprocess: ") + key + " is \"" + value + "\", which this program doesn't know");
}

Size size_of(const json& pair) { return {pair.at(0).get<int>(), pair.at(1).get<int>()}; }

Preprocess preprocess_of(const json& record) {
  if (record.is_null()) {
    throw Error("the Bundle has no preprocessing, so it can't be run on pictures");
  }
  if (record.at("version").get<int>() != kRecordVersion) {
    throw Error("the Preprocess record has a version that this program can't read");
  }
  const std::vector<std::pair<const char*, Rounding>> roundings = {{"floor", Rounding::floor},
                                                                   {"nearest", Rounding::nearest}};
  const json& resize = record.at("resize");
  Preprocess result{};
  result.input_size = size_of(record.at("input_size"));
  if (resize.is_array()) {
    result.exact_size = size_of(resize);
  } else {
    result.shorter_side = resize.get<int>();
  }
  result.interpolation = choice<Interpolation>(record, "interpolation",
                                               {{"bilinear", Interpolation::bilinear},
                                                {"bicubic", Interpolation::bicubic},
                                                {"lanczos", Interpolation::lanczos},
                                                {"opencv-bilinear", Interpolation::opencv_bilinear}});
  result.resize_rounding = choice(record, "resize_rounding", roundings);
  result.crop_rounding = choice(record, "crop_rounding", roundings);
  result.mean = record.at("mean").get<std::array<float, 3>>();
  result.std = record.at("std").get<std::array<float, 3>>();
  result.apply_orientation = record.at("apply_orientation").get<bool>();
  const Size least = result.exact_size.value_or(Size{result.shorter_side, result.shorter_side});
  if (result.input_size.height < 1 || result.input_size.width < 1 || least.height < result.input_size.height ||
      least.width < result.input_size.width || least.height > 65535 || least.width > 65535) {
    throw Error("Preprocess: resize and input_size don't fit each other");
  }
  return result;
}

std::vector<Label> labels_of(const fs::path& path, int num_classes) {
  const json value = parse(path);
  std::vector<Label> labels;
  for (int index = 0; index < num_classes; ++index) {
    const json& label = value.at(std::to_string(index));
    labels.push_back(label.is_array() ? Label{label.at(0).get<std::string>(), label.at(1).get<std::string>()}
                                     : Label{"", label.get<std::string>()});
  }
  return labels;
}

void check_files(const fs::path& folder, const json& files) {
  for (const auto& [name, record] : files.items()) {
    if (name.empty() || name.find_first_of("/\\:") != std::string::npos || name == "..") {
      throw Error(folder.string() + " lists \"" + name + "\", which is not a file of this folder");
    }
    const fs::path path = folder / fs::u8path(name);
    std::error_code code;
    if (fs::is_symlink(fs::symlink_status(path, code)) || !fs::is_regular_file(path, code)) {
      throw Error(path.string() + " is missing");
    }
    if (fs::file_size(path, code) != record.at("bytes").get<std::uintmax_t>()) {
      throw Error(path.string() + " was changed after the Bundle was written");
    }
  }
}

fs::path network_of(const fs::path& folder, const std::string& format) {
  if (format == "onnx") return folder / "model.onnx";
  if (format == "openvino") return folder / "model.xml";
  if (format == "aotinductor") return folder / "model.pt2";
  throw Error("this program doesn't know the format \"" + format + "\"");
}

std::string text_or_empty(const json& value) { return value.is_null() ? "" : value.get<std::string>(); }

}  // namespace

void Bundle::check(int images, const std::vector<std::string>& formats) const {
  if (std::find(formats.begin(), formats.end(), format) == formats.end()) {
    throw Error("this program is built for Bundles in the format " + formats.front() + ", and this one is in " +
                format);
  }
  if (batch_size != 0 && batch_size != images) {
    throw Error("the network takes only batches of " + std::to_string(batch_size));
  }
}

Bundle read_bundle(const fs::path& folder) {
  const fs::path path = folder / "vertebra.json";
  const json manifest = parse(path);
  try {
    const int schema = manifest.at("schema").get<int>();
    if (schema < 1 || schema > kSchema) {
      throw Error(path.string() + " has schema " + std::to_string(schema) + ", and this program reads up to " +
                  std::to_string(kSchema) + ": build a newer one");
    }
    check_files(folder, manifest.at("files"));
    Bundle bundle{};
    bundle.folder = folder;
    bundle.format = manifest.at("format").get<std::string>();
    bundle.network = network_of(folder, bundle.format);
    const json batch_size = schema > 1 ? manifest.at("batch_size") : json();
    bundle.batch_size = batch_size.is_null() ? 0 : batch_size.get<int>();
    bundle.model = manifest.at("model").get<std::string>();
    bundle.weights = text_or_empty(manifest.at("weights"));
    bundle.precision = manifest.at("precision").get<std::string>();
    if (manifest.contains("outputs")) bundle.outputs = text_or_empty(manifest.at("outputs"));
    bundle.preprocess = preprocess_of(manifest.at("preprocess"));
    bundle.num_classes = manifest.at("num_classes").get<int>();
    bundle.in_channels = manifest.at("in_channels").get<int>();
    bundle.input_size = manifest.at("input_size").get<int>();
    bundle.reference_seed = manifest.at("reference").at("seed").get<std::uint64_t>();
    bundle.reference_batch = manifest.at("reference").at("batch_size").get<int>();
    if (bundle.in_channels != 3) throw Error("the network doesn't take colour pictures");
    if (!manifest.at("labels").is_null()) {
      bundle.labels = labels_of(folder / "labels.json", bundle.num_classes);
    }
    return bundle;
  } catch (const json::exception& error) {
    throw Error(path.string() + " is not a Bundle's manifest: " + error.what());
  }
}

}  // namespace vertebra
