#include "bench.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <nlohmann/json.hpp>
#include <vector>

#include "network.hpp"
#include "reference.hpp"

namespace vertebra {
namespace {

using json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

// The largest output error of the same network in float32; vertebra.parity has the same limit.
constexpr double kMostError = 3e-4;

// Below these many samples, no order statistic bounds the percentile with 95 %; the median's needs 6.
constexpr std::size_t kLeastForP90 = 64, kLeastForP99 = 662, kLeast = 6;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double check(Network& network, const Bundle& bundle, int batch_size) {
  const auto images = reference_images(bundle);
  const auto logits = reference_logits(bundle);
  const std::size_t stored = static_cast<std::size_t>(bundle.reference_batch);
  const std::size_t pixels = images.size() / stored, classes = logits.size() / stored;
  std::vector<float> given, expected;
  for (std::size_t index = 0; index < static_cast<std::size_t>(batch_size); ++index) {
    const auto row = static_cast<std::ptrdiff_t>(index % stored);
    const auto image = images.begin() + row * static_cast<std::ptrdiff_t>(pixels);
    const auto answer = logits.begin() + row * static_cast<std::ptrdiff_t>(classes);
    given.insert(given.end(), image, image + static_cast<std::ptrdiff_t>(pixels));
    expected.insert(expected.end(), answer, answer + static_cast<std::ptrdiff_t>(classes));
  }
  network.set_images(given);
  network.run();
  const double error = output_error(bundle, expected, network.logits());
  if (!(error <= kMostError)) {
    throw Error("wrong outputs: they differ from the reference by " + std::to_string(error) +
                " of its spread, and " + std::to_string(kMostError) + " is allowed; nothing was measured");
  }
  return error;
}

std::vector<double> samples(Network& network, double seconds) {
  const auto warm = Clock::now();
  do {
    network.run();
  } while (seconds_since(warm) < std::min(1.0, seconds / 5));
  std::vector<double> taken;
  const auto begin = Clock::now();
  while (taken.size() < kLeast || seconds_since(begin) < seconds) {
    const auto start = Clock::now();
    network.run();
    taken.push_back(seconds_since(start));
  }
  std::sort(taken.begin(), taken.end());
  return taken;
}

double quantile(const std::vector<double>& sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(place);
  const auto high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (place - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

// The rank below which fewer than 2.5 % of the medians' order statistics fall (normal approximation).
std::size_t low_rank(std::size_t count) {
  const double n = static_cast<double>(count);
  return static_cast<std::size_t>(std::max(0.0, std::floor(n / 2 - 0.98 * std::sqrt(n) - 0.5)));
}

std::string now() {
  const std::time_t time = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S+00:00", std::gmtime(&time));
  return text;
}

}  // namespace

std::string bench(const Bundle& bundle, const BenchOptions& options) {
  if (bundle.precision != "float32") {
    throw Error("this program measures float32 Bundles; this one is " + bundle.precision);
  }
  Network network(bundle, options.batch_size, options.threads);
  const double error = check(network, bundle, options.batch_size);
  const std::vector<double> taken = samples(network, options.seconds);
  const auto row = [&](const char* metric, double value) {
    json fields = {{"model", bundle.model}, {"metric", metric}, {"value", value}, {"origin", "benched"}};
    if (!bundle.weights.empty()) fields["weights"] = bundle.weights;
    fields["input_size"] = bundle.input_size;
    fields["batch_size"] = options.batch_size;
    fields["precision"] = "float32";
    fields["engine"] = Network::engine();
    fields["device"] = "cpu";
    fields["threads"] = network.threads();
    fields["streams"] = 1;
    fields["scenario"] = "single-stream";
    fields["system"] = options.system;
    fields["versions"] = {{Network::library(), Network::version()}};
    fields["measured_at"] = now();
    return fields;
  };
  const auto graded = [&](json fields) {
    fields["samples"] = taken.size();
    fields["grade"] = "C";
    fields["grade_reasons"] = {"measured by vertebra-run: one process, other load on the machine not checked"};
    return fields;
  };
  const double median = quantile(taken, 0.5);
  const std::size_t rank = low_rank(taken.size());
  const double low = taken[rank], high = taken[taken.size() - 1 - rank];
  json rows = json::array();
  json latency = graded(row("latency", median));
  latency["low"] = low;
  latency["high"] = high;
  rows.push_back(latency);
  if (taken.size() >= kLeastForP90) rows.push_back(graded(row("latency_p90", quantile(taken, 0.9))));
  if (taken.size() >= kLeastForP99) rows.push_back(graded(row("latency_p99", quantile(taken, 0.99))));
  json throughput = graded(row("throughput", options.batch_size / median));
  throughput["low"] = options.batch_size / high;
  throughput["high"] = options.batch_size / low;
  rows.push_back(throughput);
  rows.push_back(row("output_error", error));
  const json whole = {{"format", "vertebra.measurements"}, {"version", 1}, {"rows", rows}};
  return whole.dump(1);
}

}  // namespace vertebra
