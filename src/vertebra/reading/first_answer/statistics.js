// What samples say, as statistics.py says it; and what a device's times say of all networks.

const medianOf = (values) => quantileOf(values, 0.5);

/** The largest k with P(Binomial(count, 1/2) < k) <= 2.5 %; 0 below six samples. */
function intervalRank(count) {
  let [tail, ways, rank] = [0, 2 ** -count, 0];
  for (;;) {
    tail += ways;
    if (tail > 0.025) return rank;
    rank += 1;
    ways *= (count - rank + 1) / rank;
  }
}

const DISTURBED = 0.1; // rounds apart, or an interval's half: more is grade C

/** One network's time from its rounds: the median of all samples with its 95 % interval, widened to every round's median. */
function summary(rounds) {
  const samples = rounds.flat().sort((one, other) => one - other);
  const medians = rounds.map(medianOf);
  const value = medianOf(samples);
  const rank = intervalRank(samples.length);
  const ends = rank ? [samples[rank - 1], samples[samples.length - rank]] : [samples[0], samples.at(-1)];
  const [low, high] = [Math.min(ends[0], ...medians), Math.max(ends[1], ...medians)];
  const apart = Math.max(...medians) / Math.min(...medians) - 1;
  const disturbed = apart > DISTURBED || (high - low) / 2 / value > DISTURBED;
  const grade = disturbed ? "C" : "B";
  const reason = disturbed ? `the rounds' medians are ${Math.round(100 * apart)} % apart: something else ran`
    : "a browser's tab is never alone on its device";
  return { value, low, high, grade, reason, samples: samples.length };
}

/** The standard deviation of a time's logarithm, by the longer side of its interval. */
const deviationOf = ({ value, low, high }) => Math.max(Math.abs(Math.log(low / value)), Math.abs(Math.log(high / value))) / 2;

// as Python's format ".2g": 2e+03, 40, 3.1
function brieflyTimes(times) {
  const size = times > 1 ? times : 1 / times;
  const [digits, power] = size.toExponential(1).split("e+");
  return Number(power) < 2 ? String(Number(size.toPrecision(2))) : `${Number(digits)}e+${power.padStart(2, "0")}`;
}

/** Prices of every network of the prior from `times`: a summary by network; and in words how good they are. */
function priced(prior, times, engine) {
  const found = estimated(prior, [...times].map(([name, one]) => [name, one.value, deviationOf(one)]));
  const warnings = [...found.leftOut].map(([name, factor]) => `${name} on ${engine} is ${brieflyTimes(factor)} times `
    + `${factor > 1 ? "slower" : "faster"} than the other ${found.count} foretell; left out`);
  const note = [`estimated from ${found.count} measured networks; each left out in turn, their errors are `
    + `${Math.round(100 * found.medianError)} % (median) and ${Math.round(100 * found.p90Error)} % (90th percentile)`, ...warnings].join("; ");
  const doubted = (name) => found.leftOut.has(name) && times.get(name).grade === "C";
  const rows = new Map(found.rows.map((row) => [row.name, times.has(row.name) && !doubted(row.name)
    ? { ...times.get(row.name), origin: "m" } : { ...row, origin: "e", grade: "-", reason: note }]));
  return { rows, note, warnings, count: found.count };
}

/** The columns `latency` and `fps` of the explorer's `data`, from the prices by network. */
function withPrices(data, rows) {
  const places = data.model.map((model, place) => (data.load[place] === 0 ? rows.get(data.models[model]) ?? null : null));
  const column = (of) => ({
    by: "row", value: places.map((row) => row && of(row.value)),
    origin: places.map((row) => row?.origin ?? "-").join(""),
    grade: places.map((row) => row?.grade ?? "-").join(""),
    reasons: Object.fromEntries(places.flatMap((row, place) => (row ? [[place, row.reason]] : []))),
  });
  const ends = (of, low, high) => ({ low: places.map((row) => row && of(row[low])), high: places.map((row) => row && of(row[high])) });
  const [same, inverse] = [(value) => value, (value) => 1 / value];
  return {
    ...data,
    columns: {
      ...data.columns,
      latency: { ...column(same), ...ends(same, "low", "high") },
      fps: { ...column(inverse), ...ends(inverse, "high", "low") },
    },
  };
}
