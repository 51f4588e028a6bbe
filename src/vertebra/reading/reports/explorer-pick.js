// ------------------------------------------------------------------ the pick

const lowOf = (one) => one.low ?? one.value;
const highOf = (one) => one.high ?? one.value;
const holds = (limit, value) => (limit.lower ? value <= limit.bound : value >= limit.bound);

function verdict(limit, row) {
  const one = figure(row, limit.metric);
  if (!one) return "unknown";
  const [worst, best] = limit.lower ? [highOf(one), lowOf(one)] : [lowOf(one), highOf(one)];
  return holds(limit, worst) ? "met" : holds(limit, best) ? "borderline" : "broken";
}

function miss(limit, row) {
  const one = figure(row, limit.metric);
  if (!one) return Infinity;
  const [over, under] = limit.lower ? [one.value, limit.bound] : [limit.bound, one.value];
  return under > 0 ? over / under : Infinity;
}

function reason(limit, row) {
  const { label, unit } = metrics.get(limit.metric);
  const one = figure(row, limit.metric);
  if (!one) return `${label} is not known`;
  const range = one.low === null || one.high === null ? "" : ` (${show(one.low, unit)} to ${show(one.high, unit)})`;
  return `${label} ${marked(one)}${range}, limit ${show(limit.bound, unit)}`;
}

const compare = (one, other) => {
  for (let place = 0; place < one.length; place += 1) {
    if (one[place] < other[place]) return -1;
    if (one[place] > other[place]) return 1;
  }
  return 0;
};

function firstOfEach(candidates) {
  const found = new Map();
  for (const one of candidates) if (!found.has(one.row.model)) found.set(one.row.model, one);
  return [...found.values()];
}

// As `rule.doubt`: without a grade asked for, the interval alone decides, where there is one.
function isDoubted(one, trust) {
  if (one.grade === "-") return false;
  return trust === "any" ? one.grade === "C" && (one.low === null || one.high === null) : one.grade > trust;
}

function judged(row, limits, objective, trust) {
  const asked = [...new Set([objective, ...limits.map((limit) => limit.metric)])];
  const doubts = asked.map((metric) => figure(row, metric))
    .filter((one) => one && isDoubted(one, trust));
  const verdicts = limits.map((limit) => verdict(limit, row));
  const open = limits.filter((_, place) => verdicts[place] !== "met");
  const near = verdicts.every((one) => one === "met" || one === "borderline");
  const value = figure(row, objective).value;
  const latency = metrics.has("latency") ? figure(row, "latency") : null;
  return {
    row,
    meets: open.length === 0 && doubts.length === 0,
    rank: [metrics.get(objective).lower ? value : -value, latency ? latency.value : Infinity, latency && latency.grade !== "-" ? latency.grade : "", data.order[row.index]],
    distance: [open.length + doubts.length, open.length ? Math.max(...open.map((limit) => miss(limit, row))) : 1],
    open,
    doubts: near ? doubts : [], // what clearly breaks a limit needs no second reason
    borderline: near && doubts.length === 0,
  };
}

const byRank = (one, other) => compare(one.rank, other.rank);
const byDistance = (one, other) => compare(one.distance, other.distance);

function pick(candidates, limits, objective, trust) {
  const all = candidates.filter((row) => figure(row, objective)).map((row) => judged(row, limits, objective, trust));
  const ranked = firstOfEach(all.filter((one) => one.meets).sort(byRank));
  const inside = new Set(ranked.map((one) => one.row.model));
  const nearest = firstOfEach(all.filter((one) => !inside.has(one.row.model)).sort(byDistance));
  const excluded = ranked.length
    ? nearest.filter((one) => one.rank[0] < ranked[0].rank[0]).sort(byRank) : nearest;
  return { ranked, excluded, nearest };
}

// In words only when it is shown: there may be thousands.
function why(one) {
  const reasons = one.open.map((limit) => reason(limit, one.row));
  for (const doubt of one.doubts) reasons.push(`${metrics.get(doubt.metric).label} is graded ${doubt.grade}: ${doubt.reason}`);
  return (one.borderline ? "borderline: " : "") + reasons.join("; ");
}

function named(row, ...asked) {
  const name = row.engine ? `${row.model} on ${row.engine}` : row.model;
  const parts = [...new Set(asked)].filter((metric) => metrics.has(metric)).map((metric) => figure(row, metric))
    .filter(Boolean).map((one) => `${metrics.get(one.metric).label} ${quantityOf(one)}`);
  return parts.length ? `${name} (${parts.join(", ")})` : name;
}

