#include "reference.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>

namespace vertebra {
namespace {

// ------------------------------------------------------------------ numpy's PCG64
//
// O'Neill's PCG XSL RR 128/64, seeded through numpy's SeedSequence; numpy guarantees the stream.

struct Wide {
  std::uint64_t high;
  std::uint64_t low;
};

Wide operator+(Wide a, Wide b) {
  const std::uint64_t low = a.low + b.low;
  return {a.high + b.high + (low < a.low ? 1 : 0), low};
}

Wide operator*(Wide a, Wide b) {
  const std::uint64_t mask = 0xffffffff;
  const std::uint64_t a0 = a.low & mask, a1 = a.low >> 32, b0 = b.low & mask, b1 = b.low >> 32;
  const std::uint64_t low = a0 * b0;
  const std::uint64_t middle = a1 * b0 + (low >> 32);
  const std::uint64_t other = a0 * b1 + (middle & mask);
  const std::uint64_t carried = a1 * b1 + (middle >> 32) + (other >> 32);
  return {carried + a.high * b.low + a.low * b.high, (other << 32) | (low & mask)};
}

class SeedSequence {
 public:
  explicit SeedSequence(std::uint64_t seed) {
    const std::uint32_t words[2] = {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
    for (std::size_t place = 0; place < 4; ++place) pool_[place] = hashed(place < 2 ? words[place] : 0);
    for (std::size_t from = 0; from < 4; ++from) {
      for (std::size_t to = 0; to < 4; ++to) {
        if (from != to) pool_[to] = mixed(pool_[to], hashed(pool_[from]));
      }
    }
  }

  std::uint64_t next() {
    const std::uint64_t low = word();
    return low | std::uint64_t{word()} << 32;
  }

 private:
  std::uint32_t hashed(std::uint32_t value) {
    value ^= hash_;
    hash_ *= 0x931e8875U;
    value *= hash_;
    return value ^ (value >> 16);
  }

  static std::uint32_t mixed(std::uint32_t x, std::uint32_t y) {
    const std::uint32_t result = 0xca01f9ddU * x - 0x4973f715U * y;
    return result ^ (result >> 16);
  }

  std::uint32_t word() {
    std::uint32_t value = pool_[place_++ % 4] ^ out_;
    out_ *= 0x58f38dedU;
    value *= out_;
    return value ^ (value >> 16);
  }

  std::uint32_t pool_[4] = {};
  std::uint32_t hash_ = 0x43b0d7e5U;
  std::uint32_t out_ = 0x8b51f9ddU;
  std::size_t place_ = 0;
};

class Pcg64 {
 public:
  explicit Pcg64(std::uint64_t seed) {
    SeedSequence words(seed);
    Wide start{}, sequence{};
    start.high = words.next();
    start.low = words.next();
    sequence.high = words.next();
    sequence.low = words.next();
    step_ = {sequence.high << 1 | sequence.low >> 63, sequence.low << 1 | 1};
    state_ = step_ + start;
    advance();
  }

  std::uint64_t operator()() {
    advance();
    const std::uint64_t value = state_.high ^ state_.low;
    const auto turn = static_cast<unsigned>(state_.high >> 58);
    return value >> turn | value << ((64 - turn) & 63);
  }

 private:
  void advance() { state_ = state_ * Wide{0x2360ed051fc65da4ULL, 0x4385df649fccf645ULL} + step_; }

  Wide state_{};
  Wide step_{};
};

// ------------------------------------------------------------------ numpy's archive

std::uint32_t number(const std::string& bytes, std::size_t place, int count) {
  std::uint32_t value = 0;
  for (int index = count - 1; index >= 0; --index) {
    value = value << 8 | static_cast<std::uint8_t>(bytes.at(place + static_cast<std::size_t>(index)));
  }
  return value;
}

}  // namespace

std::vector<float> reference_images(const Bundle& bundle) {
  const auto side = static_cast<std::size_t>(bundle.input_size);
  std::vector<float> images(static_cast<std::size_t>(bundle.reference_batch) * 3 * side * side);
  Pcg64 draw(bundle.reference_seed);
  const auto root = static_cast<float>(std::sqrt(3.0));
  for (float& value : images) {
    const float unit = static_cast<float>(draw() >> 40) * 0x1p-24F;  // 24 bits: exact
    value = (unit * 2.0F - 1.0F) * root;
  }
  return images;
}

std::vector<float> reference_logits(const Bundle& bundle) {
  const auto path = bundle.folder / "reference.npz";
  std::ifstream stream(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  try {
    const bool stored = bytes.compare(0, 4, "PK\3\4") == 0 && number(bytes, 8, 2) == 0;
    const std::size_t array = 30 + number(bytes, 26, 2) + number(bytes, 28, 2);
    const bool numpy = bytes.compare(30, 10, "logits.npy") == 0 && bytes.compare(array, 6, "\x93NUMPY") == 0;
    if (!stored || !numpy) throw Error(path.string() + " has no logits in the form that vertebra writes");
    const bool first = bytes.at(array + 6) == 1;
    const std::size_t begin = array + (first ? 10 : 12);
    const std::size_t length = number(bytes, array + 8, first ? 2 : 4);
    const std::string header = bytes.substr(begin, length);
    std::string shape = "(";
    shape.append(std::to_string(bundle.reference_batch)).append(", ");
    shape.append(std::to_string(bundle.num_classes)).append(")");
    for (const std::string& needed : {std::string("'<f4'"), std::string("False"), shape}) {
      if (header.find(needed) == std::string::npos) {
        throw Error(path.string() + " has no float32 logits of shape " + shape);
      }
    }
    std::vector<float> logits(static_cast<std::size_t>(bundle.reference_batch) *
                              static_cast<std::size_t>(bundle.num_classes));
    const std::string content = bytes.substr(begin + length, logits.size() * sizeof(float));
    if (content.size() != logits.size() * sizeof(float)) throw Error(path.string() + " is incomplete");
    std::memcpy(logits.data(), content.data(), content.size());
    return logits;
  } catch (const std::out_of_range&) {
    throw Error(path.string() + " is incomplete");
  }
}

bool gives_probabilities(const Bundle& bundle, const std::vector<float>& logits) {
  if (!bundle.outputs.empty()) return bundle.outputs == "probabilities";
  const auto classes = static_cast<std::ptrdiff_t>(bundle.num_classes);
  for (auto row = logits.begin(); row != logits.end(); row += classes) {
    double sum = 0;
    for (auto value = row; value != row + classes; ++value) {
      if (*value < 0) return false;
      sum += *value;
    }
    if (std::abs(sum - 1) > 1e-3) return false;
  }
  return true;
}

double output_error(const Bundle& bundle, const std::vector<float>& reference, const std::vector<float>& got) {
  if (reference.size() != got.size()) throw Error("the network's answer has another number of classes");
  const auto classes = static_cast<std::size_t>(bundle.num_classes);
  double squares = 0, largest = 0;
  for (std::size_t row = 0; row < reference.size(); row += classes) {
    double mean = 0;
    for (std::size_t place = row; place < row + classes; ++place) mean += reference[place];
    mean /= static_cast<double>(classes);
    for (std::size_t place = row; place < row + classes; ++place) {
      squares += (reference[place] - mean) * (reference[place] - mean);
      const double off = std::abs(static_cast<double>(got[place]) - reference[place]);
      if (!(off <= largest)) largest = off;  // also if it is not a number
    }
  }
  return largest / std::sqrt(squares / static_cast<double>(reference.size()));
}

}  // namespace vertebra
