// The explorer. Texts are set as text, never as HTML, and it makes no network requests.
// `pick` follows the rule of the command of that name, digit for digit.

const element = (id) => document.getElementById(id);
const data = JSON.parse(element("explorer-data").textContent);
const metrics = new Map([...data.batched, ...data.metrics].map((metric) => [metric.name, metric]));
metrics.set("batch_size", { label: "batch size", unit: "batch" });
const limited = data.metrics.filter((metric) => metric.option);
const ORIGINS = { p: "published", e: "estimated", c: "counted", m: "measured", v: "evaluated", d: "float32's, less the most that may differ" };
const FEW_ROWS = 50;

// ------------------------------------------------------------------ figures

const rows = data.model.map((model, place) => ({
  place, model: data.models[model], index: model, family: data.families[model], load: data.load[place],
  engine: data.engines[data.engine[place]] ?? "", form: data.forms[data.form[place]], parts: data.parts[data.form[place]],
  sweep: data.sweep[place],
}));

function figure(row, metric) {
  if (metric === "batch_size") return { metric, value: data.loads[row.load]?.batch_size, low: null, high: null, grade: "-" };
  if (metric === "latency_per_image") return perImage(row);
  const column = data.columns[metric];
  const place = column.by === "model" ? row.index : row.place;
  const value = column.value[place];
  if (value === null || value === undefined) return null;
  return {
    metric, value, low: column.low?.[place] ?? null, high: column.high?.[place] ?? null,
    grade: (column.grade ?? "")[place] ?? "-", origin: column.origin[place], reason: column.reasons[place] ?? "",
  };
}

function perImage(row) {
  const [latency, batch] = [figure(row, "latency"), data.loads[row.load]?.batch_size];
  if (!latency || !batch) return null;
  const [value, low, high] = [latency.value, latency.low, latency.high].map((end) => (end === null ? null : end * (1 / batch)));
  return { ...latency, metric: "latency_per_image", value, low, high };
}

const STEPS = {
  s: [[1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]],
  B: [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "B"]],
  count: [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]],
  J: [[1e3, "kJ"], [1, "J"], [1e-3, "mJ"], [1e-6, "µJ"]],
  W: [[1, "W"], [1e-3, "mW"]],
};

function fixed(value, decimals) {
  const short = value.toFixed(decimals);
  // halfway between two: the even digit; toFixed takes the larger one
  const [whole, rest] = value.toFixed(decimals + 40).split(".");
  if (!/^50*$/.test(rest.slice(decimals))) return short;
  const cut = decimals ? `${whole}.${rest.slice(0, decimals)}` : whole;
  return Number(cut.at(-1)) % 2 ? short : cut;
}

function digits(value) {
  const size = Math.abs(value);
  return fixed(value, size === 0 || size >= 100 ? 0 : 2 - Math.floor(Math.log10(size)));
}

function show(value, unit) {
  if (unit === "fraction") return `${digits(100 * value)} %`;
  if (unit === "batch") return String(value);
  if (unit === "1/s") return `${digits(value)}/s`;
  const [factor, name] = STEPS[unit].find(([least]) => Math.abs(value) >= least) ?? STEPS[unit].at(-1);
  return `${digits(value / factor)} ${name}`.trimEnd();
}

const shown = (one) => show(one.value, metrics.get(one.metric).unit);

// The interval as text, "19.0 to 31.0 ms"; empty where there is none.
function intervalOf(one) {
  if (one.low === null || one.high === null) return "";
  const [low, high] = [one.low, one.high].map((value) => show(value, metrics.get(one.metric).unit));
  const [first, second] = [low, high].map((text) => /[^0-9.]*$/.exec(text)[0]);
  return `${first === second ? low.slice(0, low.length - first.length) : low} to ${high}`;
}

// Estimates are marked with "~", what is only known to be at least that with "≥"; estimates in sentences with their interval too.
const marked = (one) => `${{ e: "~", d: "≥" }[one.origin] ?? ""}${shown(one)}`;
const quantityOf = (one) => (one.origin === "e" && one.low !== null && one.high !== null ? `${marked(one)} (${intervalOf(one)})` : marked(one));
