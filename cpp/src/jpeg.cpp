#include "jpeg.hpp"

#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include <jpeglib.h>

#include "bundle.hpp"

namespace vertebra {
namespace {

constexpr std::int64_t kMaxPixels = std::int64_t{1} << 27;

struct Failure {
  jpeg_error_mgr manager;
  std::jmp_buf place;
  char message[JMSG_LENGTH_MAX];
};

extern "C" void fail(j_common_ptr info) {
  auto* failure = reinterpret_cast<Failure*>(info->err);
  info->err->format_message(info, failure->message);
  std::longjmp(failure->place, 1);
}

extern "C" void stay_silent(j_common_ptr) {}

std::vector<std::uint8_t> read_file(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw Error(path.string() + ": can't be read");
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

// Orientation 1 to 8 of an EXIF block after its "Exif\0\0"; 1 if it is broken.
int exif_orientation(const std::uint8_t* data, std::size_t size) {
  const auto byte = [&](std::size_t place) { return place < size ? std::uint32_t{data[place]} : 0U; };
  if (size < 8) return 1;
  const bool little = std::memcmp(data, "II*\0", 4) == 0;
  if (!little && std::memcmp(data, "MM\0*", 4) != 0) return 1;
  const auto two = [&](std::size_t place) {
    return little ? byte(place) | byte(place + 1) << 8 : byte(place) << 8 | byte(place + 1);
  };
  const auto four = [&](std::size_t place) {
    return little ? two(place) | two(place + 2) << 16 : two(place) << 16 | two(place + 2);
  };
  const std::size_t start = four(4);
  if (start + 2 > size) return 1;
  for (std::size_t entry = start + 2, end = entry + 12 * two(start); entry < end; entry += 12) {
    if (entry + 12 > size) return 1;
    if (two(entry) == 0x0112) {
      const auto value = two(entry + 8);
      return two(entry + 2) == 3 && value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
    }
  }
  return 1;
}

int orientation_of(const jpeg_decompress_struct& info) {
  for (auto* marker = info.marker_list; marker != nullptr; marker = marker->next) {
    if (marker->marker == JPEG_APP0 + 1 && marker->data_length >= 6 &&
        std::memcmp(marker->data, "Exif\0\0", 6) == 0) {
      return exif_orientation(marker->data + 6, marker->data_length - 6);
    }
  }
  return 1;
}

Picture turned(Picture source, int orientation) {
  if (orientation == 1) return source;
  const bool swapped = orientation >= 5;
  const bool mirrored = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
  const bool flipped = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
  Picture result{swapped ? source.width : source.height, swapped ? source.height : source.width, {}};
  result.pixels.resize(source.pixels.size());
  for (int y = 0; y < result.height; ++y) {
    for (int x = 0; x < result.width; ++x) {
      const int row = flipped ? result.height - 1 - y : y;
      const int column = mirrored ? result.width - 1 - x : x;
      const std::size_t from = 3 * (swapped ? static_cast<std::size_t>(column) * source.width + row
                                            : static_cast<std::size_t>(row) * source.width + column);
      const std::size_t to = 3 * (static_cast<std::size_t>(y) * result.width + x);
      for (std::size_t channel = 0; channel < 3; ++channel) result.pixels[to + channel] = source.pixels[from + channel];
    }
  }
  return result;
}

}  // namespace

Picture decode_jpeg(const std::filesystem::path& path, bool apply_orientation) {
  const std::vector<std::uint8_t> data = read_file(path);
  if (data.size() < 3 || data[0] != 0xff || data[1] != 0xd8 || data[2] != 0xff) {
    throw Error(path.string() + ": not a JPEG");
  }
  jpeg_decompress_struct info{};
  Failure failure{};
  Picture picture{};  // before setjmp: a jump must not skip its destructor
  int orientation = 1;
  info.err = jpeg_std_error(&failure.manager);
  failure.manager.error_exit = fail;
  failure.manager.output_message = stay_silent;
  if (setjmp(failure.place) != 0) {
    jpeg_destroy_decompress(&info);
    throw Error(path.string() + ": damaged JPEG: " + failure.message);
  }
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, data.data(), static_cast<unsigned long>(data.size()));
  jpeg_save_markers(&info, JPEG_APP0 + 1, 0xffff);
  jpeg_read_header(&info, TRUE);
  const bool fits = static_cast<std::int64_t>(info.image_height) * info.image_width <= kMaxPixels;
  const bool inks = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
  if (!fits || inks) {
    jpeg_destroy_decompress(&info);
    throw Error(path.string() + (inks ? ": CMYK JPEGs can't be read" : ": the JPEG has too many pixels"));
  }
  info.out_color_space = JCS_RGB;
  info.dct_method = JDCT_ISLOW;  // as Python decodes: the exact transform and smooth chroma
  info.do_fancy_upsampling = TRUE;
  jpeg_start_decompress(&info);
  picture.height = static_cast<int>(info.output_height);
  picture.width = static_cast<int>(info.output_width);
  const std::size_t stride = 3 * static_cast<std::size_t>(info.output_width);
  picture.pixels.resize(stride * info.output_height);
  while (info.output_scanline < info.output_height) {
    JSAMPROW row = picture.pixels.data() + stride * info.output_scanline;
    jpeg_read_scanlines(&info, &row, 1);
  }
  orientation = apply_orientation ? orientation_of(info) : 1;
  jpeg_finish_decompress(&info);
  const auto warnings = info.err->num_warnings;
  jpeg_destroy_decompress(&info);
  if (warnings > 0) throw Error(path.string() + ": damaged JPEG: it is incomplete or corrupt");
  return turned(std::move(picture), orientation);
}

}  // namespace vertebra
