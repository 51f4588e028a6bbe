#include "preprocess.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace vertebra {
namespace {

using Bytes = std::vector<std::uint8_t>;

// Halves to even; nearbyint does so in the default rounding mode.
int half_to_even(double value) { return static_cast<int>(std::nearbyint(value)); }

Size resized(const Preprocess& record, int height, int width) {
  if (record.exact_size) return *record.exact_size;
  const int shorter = std::min(height, width);
  if (record.resize_rounding == Rounding::nearest) {
    const double scale = static_cast<double>(record.shorter_side) / shorter;
    return {half_to_even(height * scale), half_to_even(width * scale)};
  }
  const auto longer =
      static_cast<int>(std::int64_t{record.shorter_side} * std::max(height, width) / shorter);
  return height <= width ? Size{record.shorter_side, longer} : Size{longer, record.shorter_side};
}

int edge(const Preprocess& record, int side, int crop) {
  const int spare = side - crop;
  return record.crop_rounding == Rounding::nearest ? half_to_even(spare / 2.0) : spare / 2;
}

// The rectangle of the resized picture that the network sees.
struct Crop {
  Size size;  // of the resized picture
  int top, left, height, width;
};

const std::uint8_t* row_of(const Picture& picture, int row) {
  return picture.pixels.data() + 3 * static_cast<std::size_t>(row) * static_cast<std::size_t>(picture.width);
}

Bytes cut(const Picture& picture, const Crop& crop) {
  Bytes result;
  for (int y = 0; y < crop.height; ++y) {
    const auto* from = row_of(picture, crop.top + y) + 3 * crop.left;
    result.insert(result.end(), from, from + 3 * crop.width);
  }
  return result;
}

// ------------------------------------------------------------------ Pillow's filters
//
// Weights of 22 bits; rounded to a byte after the horizontal pass and again after the vertical one.

constexpr int kBits = 22;
constexpr int kHalf = 1 << (kBits - 1);

// Of one output: its first pixel and the weights of those from there on.
struct Taps {
  int low;
  std::vector<int> weights;
  int high() const { return low + static_cast<int>(weights.size()); }
};

double sinc(double x) { return x == 0 ? 1 : std::sin(3.14159265358979323846 * x) / (3.14159265358979323846 * x); }

double filter(double distance, Interpolation interpolation) {
  const double x = std::abs(distance);
  if (interpolation == Interpolation::bilinear) return std::max(1 - x, 0.0);
  if (interpolation == Interpolation::lanczos) return x < 3 ? sinc(x) * sinc(x / 3) : 0;
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;  // Keys' cubic with a = -1/2
  return x < 2 ? -0.5 * (((x - 5) * x + 8) * x - 4) : 0;
}

std::vector<Taps> taps(int size, int resized_to, int start, int length, Interpolation interpolation) {
  const double scale = static_cast<double>(size) / resized_to;
  const double stretch = std::max(scale, 1.0);
  const double width = interpolation == Interpolation::bilinear ? 1 : interpolation == Interpolation::bicubic ? 2 : 3;
  const double support = width * stretch;
  std::vector<Taps> result;
  for (int output = start; output < start + length; ++output) {
    const double centre = (output + 0.5) * scale;
    const int low = static_cast<int>(std::max(centre - support + 0.5, 0.0));
    const int high = static_cast<int>(std::min(centre + support + 0.5, static_cast<double>(size)));
    std::vector<double> shares;
    double sum = 0;
    for (int place = low; place < high; ++place) {
      shares.push_back(filter((place - centre + 0.5) / stretch, interpolation));
      sum += shares.back();
    }
    Taps one{low, {}};
    for (const double share : shares) {
      one.weights.push_back(static_cast<int>(share / sum * (1 << kBits) + (share < 0 ? -0.5 : 0.5)));
    }
    result.push_back(std::move(one));
  }
  return result;
}

std::uint8_t byte(int sum) { return static_cast<std::uint8_t>(std::clamp(sum >> kBits, 0, 255)); }

Bytes antialiased(const Picture& picture, const Crop& crop, Interpolation interpolation) {
  const auto rows = taps(picture.height, crop.size.height, crop.top, crop.height, interpolation);
  const auto columns = taps(picture.width, crop.size.width, crop.left, crop.width, interpolation);
  const int first = rows.front().low;
  const std::size_t stride = 3 * static_cast<std::size_t>(crop.width);
  Bytes across(stride * static_cast<std::size_t>(rows.back().high() - first));
  auto* to = across.data();
  for (int y = first; y < rows.back().high(); ++y) {
    const auto* row = row_of(picture, y);
    for (const Taps& column : columns) {
      int sums[3] = {kHalf, kHalf, kHalf};
      const auto* pixel = row + 3 * column.low;
      for (const int weight : column.weights) {
        for (int& sum : sums) sum += weight * *pixel++;
      }
      for (const int sum : sums) *to++ = byte(sum);
    }
  }
  Bytes result;
  result.reserve(stride * rows.size());
  std::vector<int> line(stride);
  for (const Taps& row : rows) {
    std::fill(line.begin(), line.end(), kHalf);
    const auto* from = across.data() + stride * static_cast<std::size_t>(row.low - first);
    for (const int weight : row.weights) {
      for (std::size_t place = 0; place < stride; ++place) line[place] += weight * from[place];
      from += stride;
    }
    for (const int sum : line) result.push_back(byte(sum));
  }
  return result;
}

// ------------------------------------------------------------------ OpenCV's bilinear
//
// Weights of 11 bits; the horizontal sum keeps 15, each vertical product loses 16 more, two remain to round.

// The pixel at or before an output's centre, and how far beyond it the centre lies.
struct Place {
  int pixel;
  float weight;
};

Place place(int size, int resized_to, int output) {
  const auto centre = static_cast<float>((output + 0.5) * (static_cast<double>(size) / resized_to) - 0.5);
  const float floor = std::floor(centre);
  return {static_cast<int>(floor), centre - floor};
}

int fixed(float weight) { return static_cast<int>(std::nearbyint(weight * 2048.0F)); }

struct Column {
  int near, far, share;
};

int mixed(const std::uint8_t* row, const Column& column, int channel) {
  return (row[column.near + channel] * (2048 - column.share) + row[column.far + channel] * column.share) >> 4;
}

Bytes opencv_bilinear(const Picture& picture, const Crop& crop) {
  const auto clamped = [](int pixel, int size) { return std::clamp(pixel, 0, size - 1); };
  std::vector<Column> columns;
  for (int x = 0; x < crop.width; ++x) {
    const auto [pixel, weight] = place(picture.width, crop.size.width, crop.left + x);
    const int near = clamped(pixel, picture.width);
    const bool outside = pixel < 0 || pixel >= picture.width - 1;
    columns.push_back({3 * near, 3 * clamped(near + 1, picture.width), outside ? 0 : fixed(weight)});
  }
  Bytes result;
  for (int y = 0; y < crop.height; ++y) {
    const auto [pixel, weight] = place(picture.height, crop.size.height, crop.top + y);
    const auto* upper = row_of(picture, clamped(pixel, picture.height));
    const auto* lower = row_of(picture, clamped(pixel + 1, picture.height));
    const int above = fixed(1.0F - weight);
    const int below = fixed(weight);
    for (const Column& column : columns) {
      for (int channel = 0; channel < 3; ++channel) {
        const int sum = ((mixed(upper, column, channel) * above) >> 16) +
                        ((mixed(lower, column, channel) * below) >> 16);
        result.push_back(static_cast<std::uint8_t>((sum + 2) >> 2));
      }
    }
  }
  return result;
}

Bytes cropped(const Picture& picture, const Preprocess& record) {
  const Size size = resized(record, picture.height, picture.width);
  const Crop crop{size, edge(record, size.height, record.input_size.height),
                  edge(record, size.width, record.input_size.width), record.input_size.height,
                  record.input_size.width};
  if (size.height == picture.height && size.width == picture.width) return cut(picture, crop);
  // At one half the whole-number arithmetic gives OpenCV's mean of four by itself.
  if (record.interpolation == Interpolation::opencv_bilinear) return opencv_bilinear(picture, crop);
  return antialiased(picture, crop, record.interpolation);
}

}  // namespace

std::vector<float> preprocess(const Picture& picture, const Preprocess& record) {
  const Bytes pixels = cropped(picture, record);
  const std::size_t plane = pixels.size() / 3;
  std::vector<float> values(pixels.size());
  for (std::size_t channel = 0; channel < 3; ++channel) {
    std::array<float, 256> level{};
    for (std::size_t grey = 0; grey < 256; ++grey) {
      level[grey] = (static_cast<float>(grey) / 255.0F - record.mean[channel]) / record.std[channel];
    }
    for (std::size_t place = 0; place < plane; ++place) {
      values[channel * plane + place] = level[pixels[3 * place + channel]];
    }
  }
  return values;
}

}  // namespace vertebra
