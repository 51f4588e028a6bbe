// ------------------------------------------------------------------ the state, and the address that keeps it

const PREFIX = "#explorer?";
const choices = ["by", "trust", "load", "engine", "up", "across"];
const usual = {};
let state;
let dropped = []; // what an address or a field says that can't be used, each with the reason

function fresh() {
  return {
    limits: {}, by: metrics.has("top1") ? "top1" : data.metrics[0].name, trust: "any",
    load: "0", engine: "", // the machine that the page is about comes first
    up: element("explorer-up")?.options[0].value ?? "", across: usualAcross(),
    log: "1", search: "", sort: "", network: "", open: "",
  };
}

// The first metric that something has which ran on the page's machine.
function usualAcross() {
  const offered = [...element("explorer-across")?.options ?? []].map((option) => option.value);
  const ran = rows.filter((row) => row.load === 0);
  return offered.find((name) => ran.some((row) => figure(row, name))) ?? offered[0] ?? "";
}

function address() {
  const parts = new URLSearchParams();
  for (const metric of limited) {
    const typed = state.limits[metric.name];
    if (typed !== undefined) parts.set(metric.option, `${typed}${metric.typed}`);
  }
  for (const name of Object.keys(usual)) {
    if (name !== "limits" && state[name] !== usual[name]) parts.set(name, state[name]);
  }
  for (const [name, text] of Object.entries(data.carried ?? {})) parts.set(name, text); // what a link keeps besides
  return PREFIX + parts;
}

const brief = (text) => (text.length > 60 ? `${text.slice(0, 59)}…` : text);
const drop = (name, text, reason) => dropped.push(`${brief(name)}=${brief(text)} (${reason})`);

// Limits are read with the units that `pick` takes; of an option given twice the last counts, as there.
function restored() {
  const parts = new URLSearchParams(location.hash.startsWith(PREFIX) ? location.hash.slice(PREFIX.length) : "");
  const found = location.hash.startsWith(PREFIX) ? fresh() : { ...fresh(), limits: limitsAtStart() };
  dropped = [];
  for (const [name, text] of new Map(parts)) {
    if (Object.hasOwn(data.carried ?? {}, name)) continue;
    const metric = limited.find((one) => one.option === name);
    const typed = metric && typedOf(metric, text);
    if (typed) found.limits[metric.name] = typed;
    else if (metric) drop(name, text, `can't be read; write it like ${metric.example}`);
    else if (data.options.includes(name)) drop(name, text, "no network here has this figure");
    else if (name === "limits" || !Object.hasOwn(usual, name)) drop(name, text, "there is no such option");
    else if (choices.includes(name) && !known(name).includes(text)) drop(name, text, "not one of the choices here");
    else found[name] = text;
  }
  return found;
}

// The limits of the page's answer, until the reader moves one or comes by an address that has its own.
function limitsAtStart() {
  const asked = limited.filter((metric) => Object.hasOwn(data.start, metric.option));
  return Object.fromEntries(asked.map((metric) => [metric.name, typedOf(metric, data.start[metric.option])]));
}

function known(name) {
  const select = element(`explorer-${name}`);
  return select ? [...select.options].map((option) => option.value) : [usual[name]];
}

const limits = () => limited.filter((metric) => state.limits[metric.name] !== undefined)
  .map((metric) => ({ metric: metric.name, lower: metric.lower, bound: boundOf(metric, state.limits[metric.name]) }));

const onEngine = (row) => !state.engine || row.engine === state.engine;

const HARNESS = "null"; // the engine that measures the harness: a candidate only if it is asked for, as in the command

// Rows under the chosen load and engine; for a network that didn't run there, its row without a form.
function candidates() {
  const ran = rows.filter((row) => row.load === Number(state.load) && onEngine(row));
  const names = new Set(ran.map((row) => row.model));
  const found = [...ran, ...rows.filter((row) => row.load === -1 && !names.has(row.model))]
    .sort((one, other) => one.index - other.index);
  const real = found.filter((row) => row.engine !== HARNESS);
  return state.engine || !real.length ? found : real;
}

// Rows at any batch size, with everything else as in the chosen load.
function atAnyBatch() {
  const asked = data.loads[Number(state.load)]?.sweep;
  return rows.filter((row) => data.loads[row.load]?.sweep === asked && figure(row, "batch_size").value
    && onEngine(row) && (state.engine || row.engine !== HARNESS));
}

// ------------------------------------------------------------------ sliders: a step is a share of a logarithmic range

function rangeOf(metric) {
  const column = data.columns[metric.name];
  const values = [...column.value, ...(column.low ?? []), ...(column.high ?? [])].filter((value) => value > 0);
  return values.length ? [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))] : [1, 1];
}
const ranges = new Map(limited.map((metric) => [metric.name, rangeOf(metric)]));
const isLinear = (metric) => metric.unit === "fraction";
const looseEnd = (metric) => (metric.lower ? 1000 : 0);

function typedAt(metric, step) {
  const [least, most] = ranges.get(metric.name);
  const share = step / 1000;
  const value = isLinear(metric) ? least + share * (most - least) : least * (most / least) ** share;
  return written(decimal(String(Number((value / 10 ** metric.power).toPrecision(3)))), 0);
}

function stepOf(metric, typed) {
  if (typed === undefined) return looseEnd(metric);
  const [least, most] = ranges.get(metric.name);
  const value = Math.max(boundOf(metric, typed), Number.MIN_VALUE);
  const share = isLinear(metric) ? (value - least) / (most - least || 1)
    : Math.log(value / least) / (Math.log(most / least) || 1);
  return Math.round(1000 * Math.min(1, Math.max(0, share)));
}

function showControls(moved) {
  for (const metric of limited) {
    const typed = state.limits[metric.name];
    const [number, slider] = [element(`limit-${metric.option}`), element(`slide-${metric.option}`)];
    if (number !== moved) number.value = typed ?? "";
    if (slider !== moved) slider.value = stepOf(metric, typed);
    const words = typed === undefined ? "no limit" : `${metric.lower ? "at most" : "at least"} ${show(boundOf(metric, typed), metric.unit)}`;
    slider.setAttribute("aria-valuetext", words);
  }
  for (const name of choices) if (element(`explorer-${name}`)) element(`explorer-${name}`).value = state[name];
  element("explorer-log").checked = state.log === "1";
  if (element("explorer-search") !== moved) element("explorer-search").value = state.search;
  const more = element("explorer-more");
  if (more && limited.some((metric) => state.limits[metric.name] !== undefined && more.querySelector(`#limit-${metric.option}`))) more.open = true;
  element("explorer-dropped").textContent = dropped.length ? `Left out: ${dropped.slice(0, 8).join("; ")}${dropped.length > 8 ? `; and ${dropped.length - 8} more` : ""}.` : "";
}

