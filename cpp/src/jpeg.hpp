// JPEG files to pixels, through libjpeg-turbo.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace vertebra {

// RGB, a byte each, row after row.
struct Picture {
  int height;
  int width;
  std::vector<std::uint8_t> pixels;
};

// Throws Error if the file is not a JPEG, is damaged or incomplete, or is CMYK.
Picture decode_jpeg(const std::filesystem::path& path, bool apply_orientation);

}  // namespace vertebra
