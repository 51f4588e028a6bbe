// vertebra-run: classifies photographs with a Bundle, and measures how long that takes, without Python.

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "answer.hpp"
#include "bench.hpp"
#include "bundle.hpp"
#include "jpeg.hpp"
#include "network.hpp"
#include "preprocess.hpp"
#include "reference.hpp"

namespace {

using json = nlohmann::ordered_json;

constexpr const char* kUsage = R"(Usage: vertebra-run BUNDLE PHOTO.jpg... [--top N] [--threads N] [--json]
       vertebra-run BUNDLE --bench --system NAME [--seconds S] [--batch N] [--threads N] [--json]

Prints the most likely classes of each photograph; --json prints one object per line, with all logits.
--bench checks the network against the Bundle's reference, then measures it; --json prints rows for
`vertebra cite`, in which this machine is called NAME.
)";

struct Misuse : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Arguments {
  std::vector<std::string> names;
  int top = 5;
  bool as_json = false;
  bool bench = false;
  vertebra::BenchOptions options;
};

double number(const std::string& name, const std::string& text, double least) {
  std::size_t end = 0;
  double value = 0;
  try {
    value = std::stod(text, &end);
  } catch (const std::exception&) {
    end = 0;
  }
  if (end == 0 || end != text.size() || !(value >= least) || value > 1e6) {
    throw Misuse(name + " is \"" + text + "\"; expected a number of at least " +
                 std::to_string(static_cast<int>(least)));
  }
  return value;
}

Arguments parsed(int count, char** values) {
  Arguments result;
  const std::vector<std::string> all(values + 1, values + count);
  for (std::size_t place = 0; place < all.size(); ++place) {
    const std::string& name = all[place];
    const auto value = [&](double least) {
      if (place + 1 == all.size()) throw Misuse(name + " needs a value");
      return number(name, all[++place], least);
    };
    if (name == "--json") {
      result.as_json = true;
    } else if (name == "--bench") {
      result.bench = true;
    } else if (name == "--top") {
      result.top = static_cast<int>(value(1));
    } else if (name == "--threads") {
      result.options.threads = static_cast<int>(value(1));
    } else if (name == "--batch") {
      result.options.batch_size = static_cast<int>(value(1));
    } else if (name == "--seconds") {
      result.options.seconds = value(0);
    } else if (name == "--system") {
      if (place + 1 == all.size()) throw Misuse(name + " needs a value");
      result.options.system = all[++place];
    } else if (name.rfind("--", 0) == 0) {
      throw Misuse("unknown option " + name);
    } else {
      result.names.push_back(name);
    }
  }
  if (result.names.empty()) throw Misuse("no Bundle given");
  if (result.bench && result.options.system.empty()) throw Misuse("--bench needs --system NAME");
  if (!result.bench && result.names.size() == 1) throw Misuse("no photograph given");
  return result;
}

json answer(const vertebra::Bundle& bundle, const std::vector<double>& shares, int index) {
  const double probability = shares[static_cast<std::size_t>(index)];
  json record = {{"index", index}, {"id", nullptr}, {"name", nullptr}, {"probability", probability}};
  if (!bundle.labels.empty()) {
    const auto& label = bundle.labels[static_cast<std::size_t>(index)];
    if (!label.id.empty()) record["id"] = label.id;
    record["name"] = label.name;
  }
  return record;
}

void print(const json& record, bool as_json) {
  if (as_json) {
    std::cout << record.dump() << "\n";
    return;
  }
  std::cout << record["source"].get<std::string>() << "\n";
  for (const auto& one : record["top"]) {
    std::printf("  %6.2f%%  ", 100 * one["probability"].get<double>());
    std::fflush(stdout);
    const auto& name = one["name"];
    std::cout << (name.is_null() ? "class " + one["index"].dump() : name.get<std::string>()) << std::endl;
  }
}

// Exit status 1 if a photograph can't be read; the others are still answered.
int answer_all(const vertebra::Bundle& bundle, const Arguments& arguments) {
  const bool one_of_several =
      bundle.outputs.empty() || bundle.outputs == "logits" || bundle.outputs == "probabilities";
  if (bundle.num_classes == 1 || !one_of_several) {
    throw vertebra::Error("this program names one class of several; this network's outputs stand each on its own");
  }
  vertebra::Network network(bundle, 1, arguments.options.threads);
  const bool are_probabilities = vertebra::gives_probabilities(bundle, vertebra::reference_logits(bundle));
  int status = 0;
  for (std::size_t place = 1; place < arguments.names.size(); ++place) {
    const std::string& name = arguments.names[place];
    try {
      const auto picture = vertebra::decode_jpeg(name, bundle.preprocess.apply_orientation);
      network.set_images(vertebra::preprocess(picture, bundle.preprocess));
      network.run();
      const auto logits = network.logits();
      const auto shares = vertebra::probabilities(logits.data(), bundle.num_classes, are_probabilities);
      json record = {{"source", name}, {"top", json::array()}, {"logits", logits}};
      for (const int index : vertebra::best(shares, arguments.top)) {
        record["top"].push_back(answer(bundle, shares, index));
      }
      print(record, arguments.as_json);
    } catch (const vertebra::Error& error) {
      std::cerr << "error: " << error.what() << "\n";
      status = 1;
    }
  }
  return status;
}

void bench(const vertebra::Bundle& bundle, const Arguments& arguments) {
  const std::string text = vertebra::bench(bundle, arguments.options);
  if (arguments.as_json) {
    std::cout << text << "\n";
    return;
  }
  const json record = json::parse(text);
  for (const auto& row : record["rows"]) {
    std::cout << row["metric"].get<std::string>() << " " << row["value"] << "\n";
  }
}

}  // namespace

int main(int count, char** values) {
  if (count == 2 && std::string(values[1]) == "--help") {
    std::cout << kUsage;
    return 0;
  }
  try {
    const Arguments arguments = parsed(count, values);
    const vertebra::Bundle bundle = vertebra::read_bundle(arguments.names.front());
    if (arguments.bench) {
      bench(bundle, arguments);
      return 0;
    }
    return answer_all(bundle, arguments);
  } catch (const Misuse& error) {
    std::cerr << kUsage << "\nerror: " << error.what() << "\n";
    return 2;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
}
