// Prices of all networks from the times of a few: what Estimator.estimate does in estimator.py, step by step.

const inBytes = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));

/** The prior as it comes from prior.py, with its numbers as one array a network. */
function priorOf({ names, families, widths, numbers, constants }) {
  const all = new Float64Array(inBytes(numbers).buffer);
  const width = widths.reduce((sum, one) => sum + one, 0);
  const part = (row, from, length) => all.subarray(row * width + from, row * width + from + length);
  const from = widths.map((_, place) => widths.slice(0, place).reduce((sum, one) => sum + one, 0));
  return {
    names, families, constants, index: new Map(names.map((name, place) => [name, place])),
    base: names.map((_, row) => part(row, from[0], 1)[0]),
    alone: names.map((_, row) => part(row, from[1], 1)[0]),
    features: names.map((_, row) => part(row, from[2], widths[2])),
    near: names.map((_, row) => part(row, from[3], widths[3])),
  };
}

const dot = (one, other) => one.reduce((sum, value, place) => sum + value * other[place], 0);

/** The prior's covariance of two networks. */
function kinship({ features, near, families, constants }, one, other) {
  const distance = near[one].reduce((sum, value, place) => sum + (value - near[other][place]) ** 2, 0);
  return dot(features[one], features[other]) + constants.local ** 2 * Math.exp(-distance / 2)
    + (families[one] === families[other] ? constants.family ** 2 : 0);
}

/** The inverse of a small matrix, by elimination with the largest pivots. */
function inverted(matrix) {
  const size = matrix.length;
  const work = matrix.map((row, place) => [...row, ...row.map((_, column) => Number(column === place))]);
  for (let place = 0; place < size; place += 1) {
    let pivot = place;
    for (let row = place + 1; row < size; row += 1) if (Math.abs(work[row][place]) > Math.abs(work[pivot][place])) pivot = row;
    [work[place], work[pivot]] = [work[pivot], work[place]];
    const by = work[place][place];
    work[place] = work[place].map((value) => value / by);
    for (let row = 0; row < size; row += 1) {
      if (row === place) continue;
      const times = work[row][place];
      work[row] = work[row].map((value, column) => value - times * work[place][column]);
    }
  }
  return work.map((row) => row.slice(size));
}

const some = (matrix, places) => places.map((row) => places.map((column) => matrix[row][column]));
const applied = (matrix, vector) => matrix.map((row) => dot(row, vector));

/** How much larger the anchors' errors are than the prior expects. */
const surprise = (standardised, trusted) => Math.sqrt((dot(standardised, standardised) + trusted) / (standardised.length + trusted));

/** The places of the anchors that agree with each other, and of the others the logarithm by which each is slower than foretold. */
function agreeing(covariance, seen, { fewest, trusted, contradiction, least_factor: leastFactor }) {
  let kept = seen.map((_, place) => place);
  const contradicting = new Map();
  while (kept.length > fewest) {
    const inverse = inverted(some(covariance, kept));
    const weighted = applied(inverse, kept.map((place) => seen[place]));
    const off = weighted.map((value, place) => value / inverse[place][place]);
    const sizes = off.map((value, place) => Math.abs(value) * Math.sqrt(inverse[place][place]));
    const worst = sizes.indexOf(Math.max(...sizes));
    const others = kept.filter((_, place) => place !== worst);
    const left = inverted(some(covariance, others));
    const expected = applied(left, others.map((place) => seen[place]));
    const usual = surprise(expected.map((value, place) => value / Math.sqrt(left[place][place])), trusted);
    if (!(Math.abs(off[worst]) > Math.log(leastFactor)) || sizes[worst] <= contradiction * usual) break;
    contradicting.set(kept[worst], off[worst]);
    kept = others;
  }
  return [kept, contradicting];
}

/** As `quantile` in memory.py. */
function quantileOf(values, share) {
  const ordered = [...values].sort((one, other) => one - other);
  const place = share * (ordered.length - 1);
  const below = Math.floor(place);
  const [low, high, part] = [ordered[below], ordered[Math.min(below + 1, ordered.length - 1)], place - below];
  return part < 0.5 ? low + (high - low) * part : high - (high - low) * (1 - part);
}

/** Seconds of every network with the bounds of a 90 % interval, from `measured`: [name, seconds, standard deviation of its logarithm].
 * `leftOut` are the anchors that contradict the others, with how many times slower than foretold each is. */
function estimated(prior, measured) {
  const { constants } = prior;
  if (measured.length < constants.fewest) {
    throw new Error(`${measured.length} measured networks are too few to estimate others from; ${constants.fewest} are needed`);
  }
  const every = measured.map(([name]) => prior.index.get(name));
  const unknown = measured.find(([name, seconds], place) => every[place] === undefined || !(seconds > 0 && Number.isFinite(seconds)));
  if (unknown) throw new Error(`nothing can be estimated from ${unknown[0]} at ${unknown[1]} s`);
  const seen = measured.map(([, seconds], place) => Math.log(seconds) - prior.base[every[place]]);
  const covariance = every.map((one, row) => every.map((other, column) => kinship(prior, one, other)
    + (row === column ? prior.alone[one] + measured[row][2] ** 2 : 0)));
  const [kept, contradicting] = agreeing(covariance, seen, constants);
  const inverse = inverted(some(covariance, kept));
  const weights = applied(inverse, kept.map((place) => seen[place]));
  const leftOutErrors = weights.map((value, place) => value / inverse[place][place]);
  const factor = surprise(leftOutErrors.map((value, place) => value * Math.sqrt(inverse[place][place])), constants.trusted);
  const errors = leftOutErrors.map((value) => Math.abs(Math.expm1(-value)));
  const rows = prior.names.map((name, row) => {
    const across = kept.map((place) => kinship(prior, row, every[place]));
    const log = prior.base[row] + dot(across, weights);
    const own = dot(prior.features[row], prior.features[row]) + constants.local ** 2 + constants.family ** 2;
    const variance = own - dot(applied(inverse, across), across);
    const half = constants.half_width * factor * Math.sqrt(Math.max(variance, 0) + prior.alone[row]);
    return { name, value: Math.exp(log), low: Math.exp(log - half), high: Math.exp(log + half) };
  });
  return {
    rows, count: kept.length, medianError: quantileOf(errors, 0.5), p90Error: quantileOf(errors, 0.9),
    leftOut: new Map([...contradicting].map(([place, off]) => [measured[place][0], Math.exp(off)])),
  };
}
