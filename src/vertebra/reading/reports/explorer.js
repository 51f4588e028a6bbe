// The explorer. Texts are set as text, never as HTML, and it makes no network requests.
// `pick` follows the rule of the command of that name, digit for digit.

const element = (id) => document.getElementById(id);
const data = JSON.parse(element("explorer-data").textContent);
const metrics = new Map([...data.batched, ...data.metrics].map((metric) => [metric.name, metric]));
metrics.set("batch_size", { label: "batch size", unit: "batch" });
const limited = data.metrics.filter((metric) => metric.option);
const ORIGINS = { p: "published", e: "estimated", c: "counted", m: "measured", v: "evaluated" };
const FEW_ROWS = 50;

// ------------------------------------------------------------------ figures

const rows = data.model.map((model, place) => ({
  place, model: data.models[model], index: model, family: data.families[model], load: data.load[place],
  engine: data.engines[data.engine[place]] ?? "", form: data.forms[data.form[place]],
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
  return `${label} ${show(one.value, unit)}${range}, limit ${show(limit.bound, unit)}`;
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

function judged(row, limits, objective, trust) {
  const asked = [...new Set([objective, ...limits.map((limit) => limit.metric)])];
  const doubts = asked.map((metric) => figure(row, metric))
    .filter((one) => one && one.grade !== "-" && one.grade > trust);
  const verdicts = limits.map((limit) => verdict(limit, row));
  const open = limits.filter((_, place) => verdicts[place] !== "met");
  const near = verdicts.every((one) => one === "met" || one === "borderline");
  const value = figure(row, objective).value;
  const latency = metrics.has("latency") ? figure(row, "latency") : null;
  return {
    row,
    meets: open.length === 0 && doubts.length === 0,
    rank: [metrics.get(objective).lower ? value : -value, latency ? latency.value : Infinity, row.model],
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
    .filter(Boolean).map((one) => `${metrics.get(one.metric).label} ${shown(one)}`);
  return parts.length ? `${name} (${parts.join(", ")})` : name;
}

// ------------------------------------------------------------------ the state, and the address that keeps it

const PREFIX = "#explorer?";
const choices = ["by", "trust", "load", "engine", "up", "across"];
const usual = {};
let state;

function fresh() {
  const measured = data.loads.map((_, place) => rows.filter((row) => row.load === place).length
    + (data.loads[place].batch_size === 1 ? 1e9 : 0));
  return {
    limits: {}, by: metrics.has("top1") ? "top1" : data.metrics[0].name, trust: "B",
    load: String(Math.max(0, measured.indexOf(Math.max(...measured)))), engine: "",
    up: element("explorer-up")?.options[0].value ?? "", across: element("explorer-across")?.options[0].value ?? "",
    log: "1", search: "", sort: "", network: "", open: "",
  };
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
  return PREFIX + parts;
}

function restored() {
  const parts = new URLSearchParams(location.hash.startsWith(PREFIX) ? location.hash.slice(PREFIX.length) : "");
  const found = fresh();
  for (const metric of limited) {
    const typed = parseFloat(parts.get(metric.option));
    if (Number.isFinite(typed) && typed >= 0) found.limits[metric.name] = String(typed);
  }
  for (const name of Object.keys(usual)) if (name !== "limits" && parts.has(name)) found[name] = parts.get(name);
  for (const name of choices) {
    const select = element(`explorer-${name}`);
    const known = select ? [...select.options].map((option) => option.value) : [usual[name]];
    if (!known.includes(found[name])) found[name] = usual[name];
  }
  return found;
}

const limits = () => limited.filter((metric) => state.limits[metric.name] !== undefined)
  .map((metric) => ({ metric: metric.name, lower: metric.lower, bound: Number(state.limits[metric.name]) * metric.factor }));

const onEngine = (row) => !state.engine || row.engine === state.engine;

// Rows under the chosen load and engine; for a network that didn't run there, its row without a form.
function candidates() {
  const ran = rows.filter((row) => row.load === Number(state.load) && onEngine(row));
  const names = new Set(ran.map((row) => row.model));
  return [...ran, ...rows.filter((row) => row.load === -1 && !names.has(row.model))]
    .sort((one, other) => one.index - other.index);
}

// Rows at any batch size, with everything else as in the chosen load.
function atAnyBatch() {
  const asked = data.loads[Number(state.load)]?.sweep;
  return rows.filter((row) => data.loads[row.load]?.sweep === asked && figure(row, "batch_size").value && onEngine(row));
}

// ------------------------------------------------------------------ sliders: a step is a share of a logarithmic range

function rangeOf(metric) {
  const column = data.columns[metric.name];
  const values = [...column.value, ...(column.low ?? []), ...(column.high ?? [])].filter((value) => value > 0);
  return [Math.min(...values), Math.max(...values)];
}
const ranges = new Map(limited.map((metric) => [metric.name, rangeOf(metric)]));
const isLinear = (metric) => metric.unit === "fraction";
const looseEnd = (metric) => (metric.lower ? 1000 : 0);

function typedAt(metric, step) {
  const [least, most] = ranges.get(metric.name);
  const share = step / 1000;
  const value = isLinear(metric) ? least + share * (most - least) : least * (most / least) ** share;
  return String(Number((value / metric.factor).toPrecision(3)));
}

function stepOf(metric, typed) {
  if (typed === undefined) return looseEnd(metric);
  const [least, most] = ranges.get(metric.name);
  const value = Math.max(Number(typed) * metric.factor, Number.MIN_VALUE);
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
    const words = typed === undefined ? "no limit" : `${metric.lower ? "at most" : "at least"} ${show(typed * metric.factor, metric.unit)}`;
    slider.setAttribute("aria-valuetext", words);
  }
  for (const name of choices) if (element(`explorer-${name}`)) element(`explorer-${name}`).value = state[name];
  element("explorer-log").checked = state.log === "1";
  if (element("explorer-search") !== moved) element("explorer-search").value = state.search;
}

// ------------------------------------------------------------------ the answer in words

function made(name, text, attributes = {}) {
  const one = document.createElement(name);
  one.textContent = text;
  for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
  return one;
}

function sentence(found, asked) {
  if (found.ranked.length) return `Choice: ${named(found.ranked[0].row, ...asked)}.`;
  if (!found.excluded.length) return `No network has a figure of ${metrics.get(state.by).label}.`;
  const [nearest] = found.excluded;
  return `No network certainly meets this. The nearest: ${named(nearest.row)}: ${why(nearest)}.`;
}

function origins(row, asked) {
  const parts = [...new Set([...asked, ...limited.map((metric) => metric.name)])].filter((name) => metrics.has(name))
    .map((name) => figure(row, name)).filter(Boolean)
    .map((one) => `${metrics.get(one.metric).label} ${ORIGINS[one.origin]}`);
  return `Origin: ${parts.join(", ")}.${row.form ? ` Conditions: ${row.form}.` : ""}`;
}

function command() {
  const parts = limited.filter((metric) => state.limits[metric.name] !== undefined)
    .map((metric) => `--${metric.option} ${state.limits[metric.name]}${metric.typed}`);
  const batch = data.loads[Number(state.load)]?.batch_size ?? 1;
  if (state.by !== "top1") parts.push(`--by ${state.by}`);
  if (state.trust !== "B") parts.push(`--trust ${state.trust}`);
  if (state.engine) parts.push(`--engine ${state.engine}`);
  if (batch !== 1) parts.push(`--batch-size ${batch}`);
  if (Object.values(data.columns).some((column) => column.origin.includes("e"))) parts.push("--among catalogue");
  return ["vertebra pick", ...parts].join(" ");
}

let speaking;
function showAnswer(found, asked) {
  const first = sentence(found, asked);
  clearTimeout(speaking); // so that a moving slider isn't read out at each step
  speaking = setTimeout(() => { element("explorer-spoken").textContent = first; }, 400);
  const parts = [made("p", first, { id: "explorer-choice" })];
  if (found.ranked.length) parts.push(made("p", origins(found.ranked[0].row, asked), { class: "note" }));
  if (found.ranked.length > 1) {
    parts.push(made("p", `Runner-up: ${named(found.ranked[1].row, ...asked)}.`, { id: "explorer-runner-up" }));
  }
  parts.push(made("p", `Networks that meet every limit: ${found.ranked.length}.`, { id: "explorer-meeting" }));
  if (found.excluded.length) {
    const folded = made("details", "");
    const heading = found.ranked.length ? "Better, but excluded" : "Nearest misses";
    folded.append(made("summary", `${heading}: ${found.excluded.length}`));
    const list = made("ul", "", { id: "explorer-excluded" });
    list.append(...found.excluded.slice(0, 12).map((one) => made("li", `${named(one.row)}: ${why(one)}`)));
    folded.append(list);
    folded.open = element("explorer-answer").querySelector("details")?.open ?? false;
    parts.push(folded);
  }
  const same = made("p", "On the command line: ", { class: "note" });
  same.append(made("code", command(), { id: "explorer-command" }));
  element("explorer-answer").replaceChildren(...parts, same);
}

// ------------------------------------------------------------------ the table

const capital = (label) => label[0].toUpperCase() + label.slice(1);
const COLUMNS = [
  { key: "network", label: "Network" }, { key: "verdict", label: "Under the limits" },
  ...(data.forms.some(Boolean) ? [{ key: "form", label: "Conditions" }] : []),
  ...data.metrics.map((metric) => ({
    key: metric.name, label: capital(metric.label), number: true,
  })),
];
let everything = false;
let lines = [];

function heading(column) {
  const cell = made("th", "", { scope: "col", ...(column.number ? { class: "number" } : {}) });
  const button = made("button", column.label, { type: "button" });
  button.addEventListener("click", () => {
    const [key, down] = state.sort.split("-");
    state.sort = key === column.key && !down ? `${column.key}-down` : column.key;
    changed();
  });
  cell.append(button);
  return cell;
}

function cellOf(one, column) {
  if (!column.number) return made("td", column.key === "form" ? one.row.form : one.meets ? "met" : why(one), { class: "prose" });
  const found = figure(one.row, column.key);
  const cell = made("td", found ? shown(found) : "", { class: found?.origin === "e" ? "number estimated" : "number" });
  if (found && found.grade !== "-") {
    cell.append(" ", made("span", found.grade, { class: `grade grade-${found.grade.toLowerCase()}`, title: found.reason || `grade ${found.grade}` }));
  }
  const unit = metrics.get(column.key).unit;
  const range = found && found.low !== null && found.high !== null ? `${show(found.low, unit)} – ${show(found.high, unit)}` : "";
  const aside = [range, found?.origin === "e" ? "estimated" : ""].filter(Boolean).join(", ");
  if (aside) cell.append(made("small", aside));
  return cell;
}

function networkButton(model) {
  const button = made("button", model, { type: "button", class: "network", "aria-pressed": String(model === state.network) });
  button.addEventListener("click", () => choose(model));
  return button;
}

function lineOf(one) {
  const line = made("tr", "");
  const name = made("th", "", { scope: "row" });
  name.append(networkButton(one.row.model));
  line.append(name, ...COLUMNS.slice(1).map((column) => cellOf(one, column)));
  return line;
}

function sorted(found) {
  const [key, down] = state.sort.split("-");
  if (!key) return found;
  const value = (one) => {
    if (key === "network") return one.row.model;
    if (key === "form") return one.row.form;
    if (key === "verdict") return one.meets ? "" : why(one);
    return metrics.has(key) ? figure(one.row, key)?.value : undefined;
  };
  const text = new Intl.Collator("en", { numeric: true });
  return found.map((one) => [value(one), one]).sort(([a], [b]) => {
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    const order = typeof a === "number" ? a - b : text.compare(a, b);
    return down ? -order : order;
  }).map(([, one]) => one);
}

const sought = (row) => state.search.toLowerCase().split(/\s+/).every((word) => row.model.toLowerCase().includes(word));

function fillTable(found) {
  lines = sorted([...found.ranked, ...found.nearest]).filter((one) => sought(one.row));
  const some = everything ? lines : lines.slice(0, FEW_ROWS);
  element("explorer-table").tBodies[0].replaceChildren(...some.map(lineOf));
  const [key, down] = state.sort.split("-");
  [...element("explorer-table").tHead.rows[0].cells].forEach((cell, place) => {
    if (COLUMNS[place].key === key) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  });
  element("explorer-all").hidden = some.length === lines.length;
  element("explorer-all").textContent = `Show all ${lines.length}`;
  element("explorer-count").textContent = `${some.length} of ${lines.length} networks shown`;
}

// ------------------------------------------------------------------ the grid, by the rule of the command `chart grid`

function gridEntry(row, asked) {
  const verdicts = asked.map((limit) => verdict(limit, row));
  if (verdicts.some((one) => one === "broken" || one === "unknown")) return null;
  const reasons = asked.filter((_, place) => verdicts[place] === "borderline").map((limit) => reason(limit, row));
  const judging = [...new Set([state.by, ...asked.map((limit) => limit.metric)])].map((metric) => figure(row, metric));
  for (const one of judging) {
    if (one.grade !== "-" && one.grade > state.trust) reasons.push(`${metrics.get(one.metric).label} is graded ${one.grade}`);
  }
  return { row, reasons, meets: reasons.length === 0 };
}

// The best in the order of `ordered`, and between them those that get no place.
function gridCell(ordered, asked) {
  const nearest = new Map();
  for (const [rank, row] of ordered.entries()) {
    const [entry, before] = [gridEntry(row, asked), nearest.get(row.model)];
    if (entry && (!before || (!before.meets && entry.meets))) nearest.set(row.model, { ...entry, rank });
  }
  const kept = [];
  let placed = 0;
  for (const entry of [...nearest.values()].sort((one, other) => one.rank - other.rank)) {
    if (placed === data.best) break;
    placed += entry.meets;
    kept.push({ ...entry, place: entry.meets ? placed : null });
  }
  return kept;
}

function gridItem(entry) {
  const isEstimate = ["fps", "memory_total"].some((metric) => figure(entry.row, metric).origin === "e");
  const figures = ` ${shown(figure(entry.row, state.by))}${isEstimate ? " ~" : ""}`;
  const item = made("li", "", entry.meets ? {} : { class: "near" });
  const [before, after] = entry.meets ? [`${entry.place}. `, ""] : ["(", `: ${entry.reasons.join("; ")})`];
  item.append(before, networkButton(entry.row.model), figures, after);
  return item;
}

function fillGrid(table) {
  const { lower } = metrics.get(state.by);
  const ordered = atAnyBatch().filter((row) => figure(row, "batch_size").value === 1
    && [state.by, "fps", "memory_total"].every((metric) => figure(row, metric)))
    .map((row) => ({ row, rank: [(lower ? 1 : -1) * figure(row, state.by).value, figure(row, "latency")?.value ?? Infinity, row.model] }))
    .sort(byRank).map((one) => one.row);
  const [speeds, memories] = ["fps", "memory_total"].map((metric) => data.classes[metric]
    .map((bound) => ({ metric, lower: metrics.get(metric).lower, bound })));
  const words = ({ metric, bound }, side) => `${capital(metrics.get(metric).label)} ${side} ${show(bound, metrics.get(metric).unit)}`;
  const head = made("tr", "");
  head.append(made("td", ""), ...speeds.map((limit) => made("th", words(limit, "at least"), { scope: "col" })));
  table.tHead.replaceChildren(head);
  table.tBodies[0].replaceChildren(...memories.map((memory) => {
    const line = made("tr", "");
    line.append(made("th", words(memory, "at most"), { scope: "row" }), ...speeds.map((speed) => {
      const cell = made("td", "");
      const list = made("ol", "");
      list.append(...gridCell(ordered, [memory, speed, ...limits()]).map(gridItem));
      cell.append(list.children.length ? list : "none");
      return cell;
    }));
    return line;
  }));
  table.caption.textContent = `The ${data.best} best networks by ${metrics.get(state.by).label} at batch size 1 that certainly meet the two classes and `
    + "every limit above. In brackets: borderline, or of a grade that is not trusted. ~: estimated.";
}

// ------------------------------------------------------------------ figures along the batch size

// A line per network and form with more than one batch size; its points by batch size.
function linesOf(metric) {
  const found = new Map();
  for (const row of atAnyBatch()) {
    const [x, y] = [figure(row, "batch_size"), figure(row, metric)];
    if (!y || !(y.value > 0)) continue;
    const key = `${row.index} ${row.sweep}`;
    if (!found.has(key)) found.set(key, []);
    found.get(key).push({ one: { row }, x, y });
  }
  return [...found.values()].filter((points) => points.length > 1)
    .map((points) => points.sort((one, other) => one.x.value - other.x.value));
}

function classOf(point) {
  const { metric, value } = point.y;
  const bounds = metric === "memory_total" ? data.classes.memory_total
    : [...data.classes.fps].reverse().map((rate) => 1 / rate);
  const place = bounds.findIndex((bound) => value <= bound);
  return place < 0 ? bounds.length : place;
}

function classWords(metric) {
  if (metric === "memory_total") {
    const words = data.classes.memory_total.map((bound) => show(bound, "B"));
    return [...words.map((word) => `at most ${word}`), `above ${words.at(-1)}`];
  }
  const rates = [...data.classes.fps].reverse();
  return [...rates.map((rate) => `at least ${rate} images/s`), `below ${rates.at(-1)} images/s`];
}

function fillBatches(table, metric) {
  const order = (one, other) => compare([one[0].y.value, one[0].one.row.model], [other[0].y.value, other[0].one.row.model]);
  const found = linesOf(metric).filter(([first]) => sought(first.one.row)).sort(order);
  const batches = [...new Set(found.flat().map((point) => point.x.value))].sort((one, other) => one - other);
  const several = new Set(found.map(([first]) => first.one.row.model)).size < found.length;
  const head = made("tr", "");
  head.append(made("th", "Network", { scope: "col" }), ...batches.map((batch) => made("th", `Batch ${batch}`, { scope: "col", class: "number" })));
  table.tHead.replaceChildren(head);
  table.tBodies[0].replaceChildren(...found.map((points) => {
    const line = made("tr", "");
    const name = made("th", "", { scope: "row" });
    const { row } = points[0].one;
    name.append(networkButton(row.model), ...(several ? [made("small", ` ${data.sweeps[row.sweep]}`)] : []));
    line.append(name, ...batches.map((batch) => {
      const point = points.find((one) => one.x.value === batch);
      if (!point) return made("td", "");
      const cell = cellOf(point.one, { key: metric, number: true });
      cell.classList.add(`class-${classOf(point)}`);
      return cell;
    }));
    return line;
  }));
  table.caption.replaceChildren(`${capital(metrics.get(metric).label)} of networks with more than one batch size, the least first; `
    + "blank where not measured.", ...classWords(metric).map((word, place) => made("span", word, { class: `class class-${place}` })));
}

const foldedTables = [...document.querySelectorAll("#explorer details[data-table]")];

// Only the open ones: a slider updates them at every step.
function fillFolded() {
  const open = state.open.split(",");
  for (const one of foldedTables) {
    const name = one.dataset.table;
    one.open = open.includes(name);
    if (!one.open) continue;
    const table = one.querySelector("table");
    if (name === "grid") fillGrid(table);
    else fillBatches(table, name);
  }
}

// ------------------------------------------------------------------ the views

const SHAPES = [
  (pen, x, y, r) => pen.arc(x, y, r, 0, 2 * Math.PI),
  (pen, x, y, r) => pen.rect(x - 0.886 * r, y - 0.886 * r, 1.772 * r, 1.772 * r),
  ...[[4, 0, 1.253], [3, -90, 1.555], [3, 90, 1.555], [5, -90, 1.149]].map(([corners, turned, scale]) => (pen, x, y, r) => {
    for (let corner = 0; corner < corners; corner += 1) {
      const angle = ((turned + (360 * corner) / corners) * Math.PI) / 180;
      pen[corner ? "lineTo" : "moveTo"](x + scale * r * Math.cos(angle), y + scale * r * Math.sin(angle));
    }
    pen.closePath();
  }),
];
// Six colours and six shapes for the twelve largest families, no two with both equal; the others are grey discs.
const counted = new Map();
for (const name of data.families) counted.set(name, (counted.get(name) ?? 0) + 1);
const large = [...counted].sort((one, other) => other[1] - one[1]).slice(0, 12).map(([name]) => name);
const looks = new Map(large.map((name, place) => [name, { colour: `--family-${place % 6}`, shape: SHAPES[(place + 3 * Math.floor(place / 6)) % 6] }]));
const OTHERS = { colour: "--family-other", shape: SHAPES[0] };
const lookOf = (name) => looks.get(name) ?? OTHERS;

const views = [...document.querySelectorAll("#explorer canvas")].map((canvas) => ({
  canvas, points: [], lines: [], isAlongBatch: canvas.dataset.metric === "batch_size",
  get metric() { return canvas.dataset.metric || state.across; }, // that of the last view is chosen
  get up() { return canvas.dataset.up || state.up; },
}));
const MARGIN = { left: 52, right: 14, top: 10, bottom: 34 };
const HEIGHT = 320;
let colours = {};
let latest = { ranked: [], excluded: [], nearest: [] };
let pointed = "";

function readColours() {
  const style = getComputedStyle(element("explorer-body"));
  colours = {};
  for (const name of ["--paper", "--ink", "--faint", "--line", "--accent", "--family-other", ...[0, 1, 2, 3, 4, 5].map((n) => `--family-${n}`)]) {
    colours[name] = style.getPropertyValue(name).trim();
  }
}

function scaleOf(least, most, from, to, isLogarithmic) {
  const bend = isLogarithmic ? Math.log10 : (value) => value;
  const [a, b] = [bend(least), bend(most)];
  const room = 0.05 * (b - a || 1);
  const at = (value) => from + ((bend(value) - a + room) / (b - a + 2 * room)) * (to - from);
  const ends = [a - room, b + room].map((end) => (isLogarithmic ? 10 ** end : end));
  const round = isLogarithmic ? decades(...ends) : [];
  return { at, ticks: round.length > 1 ? round : steps(...ends) };
}

function decades(least, most) {
  const found = [];
  for (let power = Math.floor(Math.log10(least)); power <= Math.log10(most); power += 1) {
    for (const lead of most / least > 1e3 ? [1] : [1, 2, 5]) {
      const value = Number(`${lead}e${power}`);
      if (value >= least && value <= most) found.push(value);
    }
  }
  return found;
}

function steps(least, most) {
  const rough = (most - least) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((lead) => lead * power).find((size) => size >= rough);
  const found = [];
  for (let value = Math.ceil(least / step) * step; value <= most; value += step) found.push(value);
  return found.filter((value) => value >= 0);
}

const tick = (value, unit) => show(value, unit).replace(/(\.\d*?)0+(?!\d)/, "$1").replace(/\.(?!\d)/, "");

// One point per network and figure: forms with the same figures would cover each other.
function pointsOf(view, judgedRows) {
  const found = new Map();
  for (const one of judgedRows) {
    const [x, y] = [figure(one.row, view.metric), figure(one.row, view.up)];
    if (!x || !y || !(x.value > 0) || !(y.value > 0)) continue;
    const key = `${one.row.model} ${x.value} ${y.value}`;
    const known = found.get(key);
    if (!known || (one.meets && !known.one.meets)) found.set(key, { one, x, y });
  }
  return [...found.values()];
}

const largest = Math.max(1, ...(data.columns.params?.value ?? []).filter(Boolean));
// Many balls are drawn smaller, so that they stay distinguishable.
const WIDEST = data.models.length > 200 ? 11 : 17;
const radiusOf = (row) => {
  const params = metrics.has("params") ? figure(row, "params") : null;
  return Math.max(2.5, WIDEST * Math.sqrt((params?.value ?? 0) / largest));
};

function draw(view) {
  const { canvas } = view;
  const [width, ratio] = [canvas.clientWidth || 480, window.devicePixelRatio || 1];
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(HEIGHT * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.fillStyle = colours["--paper"];
  pen.fillRect(0, 0, width, HEIGHT);
  pen.font = "12px system-ui, sans-serif";
  const points = view.points;
  if (!points.length) {
    pen.fillStyle = colours["--faint"];
    pen.fillText("No network has both figures.", MARGIN.left, HEIGHT / 2);
    return;
  }
  const xs = points.map((point) => point.x.value);
  const ys = points.map((point) => point.y.value);
  const x = scaleOf(Math.min(...xs), Math.max(...xs), MARGIN.left, width - MARGIN.right, state.log === "1");
  const y = scaleOf(Math.min(...ys), Math.max(...ys), HEIGHT - MARGIN.bottom, MARGIN.top,
    state.log === "1" && metrics.get(view.up).unit !== "fraction");
  if (view.isAlongBatch) x.ticks = [...new Set(xs)].sort((one, other) => one - other);
  for (const point of points) {
    const radius = view.isAlongBatch ? 3 : radiusOf(point.one.row);
    Object.assign(point, { at: [x.at(point.x.value), y.at(point.y.value)], radius });
  }
  axes(pen, view, x, y, width);
  pen.save();
  pen.beginPath();
  pen.rect(MARGIN.left, MARGIN.top - 6, width - MARGIN.left - MARGIN.right, HEIGHT - MARGIN.top - MARGIN.bottom + 6);
  pen.clip();
  bounds(pen, view, x, y, width);
  if (view.isAlongBatch) for (const points of view.lines) along(pen, points);
  else stairs(pen, view, points);
  const drawn = [...points].sort((one, other) => one.one.meets - other.one.meets || other.radius - one.radius);
  const isCrowded = drawn.length > 300; // then the intervals of networks outside the limits would hide the others
  for (const point of drawn) if (point.one.meets || !isCrowded) interval(pen, point, x, y);
  for (const point of drawn) ball(pen, point);
  pen.restore();
  marks(pen, points, width);
}

function axes(pen, view, x, y, width) {
  pen.strokeStyle = colours["--line"];
  pen.fillStyle = colours["--faint"];
  pen.lineWidth = 1;
  pen.textAlign = "center";
  let end = -Infinity;
  for (const value of x.ticks) {
    const text = tick(value, metrics.get(view.metric).unit);
    line(pen, [x.at(value), MARGIN.top], [x.at(value), HEIGHT - MARGIN.bottom]);
    const half = pen.measureText(text).width / 2 + 4;
    if (x.at(value) - half > end) {
      pen.fillText(text, x.at(value), HEIGHT - MARGIN.bottom + 16);
      end = x.at(value) + half;
    }
  }
  pen.textAlign = "right";
  for (const value of y.ticks) {
    line(pen, [MARGIN.left, y.at(value)], [width - MARGIN.right, y.at(value)]);
    pen.fillText(tick(value, metrics.get(view.up).unit), MARGIN.left - 6, y.at(value) + 4);
  }
  pen.textAlign = "left";
}

function line(pen, from, to) {
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
}

function bounds(pen, view, x, y, width) {
  pen.strokeStyle = colours["--accent"];
  pen.lineWidth = 1.5;
  pen.setLineDash([6, 4]);
  for (const limit of limits()) {
    if (limit.metric === view.metric && limit.bound > 0) line(pen, [x.at(limit.bound), 0], [x.at(limit.bound), HEIGHT]);
    if (limit.metric === view.up && limit.bound > 0) line(pen, [0, y.at(limit.bound)], [width, y.at(limit.bound)]);
  }
  pen.setLineDash([]);
}

// The Pareto front of figures with a trusted grade: from the better end, each one better than all before it.
function stairs(pen, view, points) {
  const [across, up] = [metrics.get(view.metric).lower ? 1 : -1, metrics.get(view.up).lower ? -1 : 1];
  const believed = points.filter(({ x, y }) => [x, y].every((one) => one.grade === "-" || one.grade <= state.trust))
    .sort((one, other) => across * (one.x.value - other.x.value) || up * (other.y.value - one.y.value));
  let [top, height] = [-Infinity, up > 0 ? HEIGHT : 0];
  pen.beginPath();
  for (const point of believed) {
    if (up * point.y.value <= top) continue;
    pen[top === -Infinity ? "moveTo" : "lineTo"](point.at[0], height);
    pen.lineTo(...point.at);
    [top, height] = [up * point.y.value, point.at[1]];
  }
  pen.lineTo(across * 1e4, height);
  pen.strokeStyle = colours["--faint"];
  pen.lineWidth = 1.5;
  pen.setLineDash([3, 3]);
  pen.stroke();
  pen.setLineDash([]);
}

// One network's line, thicker if it is marked.
function along(pen, points) {
  const { row } = points[0].one;
  const isMarked = [state.network, pointed, latest.ranked[0]?.row.model].includes(row.model);
  pen.globalAlpha = isMarked ? 1 : strength(points[0]);
  pen.strokeStyle = colours[lookOf(row.family).colour];
  pen.lineWidth = isMarked ? 3 : 1.5;
  if (points.some((point) => point.y.origin === "e")) pen.setLineDash([5, 4]);
  pen.beginPath();
  for (const point of points) pen.lineTo(...point.at);
  pen.stroke();
  pen.setLineDash([]);
  pen.globalAlpha = 1;
}

const strength = (point) => (!sought(point.one.row) ? 0.06 : point.one.meets ? 0.9 : 0.25);

function interval(pen, point, x, y) {
  pen.globalAlpha = 0.7 * strength(point);
  pen.strokeStyle = colours[lookOf(point.one.row.family).colour];
  pen.lineWidth = 1;
  if (point.x.low > 0 && point.x.high !== null) line(pen, [x.at(point.x.low), point.at[1]], [x.at(point.x.high), point.at[1]]);
  if (point.y.low > 0 && point.y.high !== null) line(pen, [point.at[0], y.at(point.y.low)], [point.at[0], y.at(point.y.high)]);
  pen.globalAlpha = 1;
}

// Filled: measured or counted here; paler: published; hollow and dashed: estimated; hollow: grade C.
function ball(pen, point) {
  const look = lookOf(point.one.row.family);
  const isEstimate = [point.x, point.y].some((one) => one.origin === "e");
  const isDoubtful = [point.x, point.y].some((one) => one.grade === "C");
  pen.strokeStyle = pen.fillStyle = colours[look.colour];
  pen.lineWidth = 1.3;
  if (isEstimate) pen.setLineDash([2.5, 2]);
  pen.beginPath();
  look.shape(pen, ...point.at, point.radius);
  pen.globalAlpha = strength(point) * (point.x.origin === "p" ? 0.35 : 0.7);
  if (!isEstimate && !isDoubtful) pen.fill();
  pen.globalAlpha = strength(point);
  pen.stroke();
  pen.setLineDash([]);
  pen.globalAlpha = 1;
}

// A ring and a name for the choice, the network that the reader chose, and the one pointed at.
function marks(pen, points, width) {
  const choice = latest.ranked[0]?.row;
  for (const point of points) {
    const { model } = point.one.row;
    if (point.isInner) continue;
    const isChoice = choice !== undefined && (point.one.row === choice || (model === choice.model && point.one.meets));
    if (!isChoice && model !== state.network && model !== pointed) continue;
    pen.strokeStyle = pen.fillStyle = colours["--ink"];
    pen.lineWidth = isChoice ? 2.5 : 1.5;
    pen.beginPath();
    pen.arc(...point.at, point.radius + 4, 0, 2 * Math.PI);
    pen.stroke();
    const side = point.at[0] > width / 2 ? -1 : 1;
    pen.textAlign = side < 0 ? "right" : "left";
    pen.strokeStyle = colours["--paper"];
    pen.lineWidth = 3;
    const place = [point.at[0] + side * (point.radius + 8), point.at[1] + 4];
    pen.strokeText(model, ...place);
    pen.fillText(model, ...place);
  }
  pen.textAlign = "left";
}

function drawAll() {
  for (const view of views) draw(view);
}

function fillViews(found) {
  const meeting = new Set(found.ranked.map((one) => one.row));
  const all = candidates().filter((row) => metrics.has(state.up) && figure(row, state.up))
    .map((row) => ({ row, meets: meeting.has(row) }));
  for (const view of views) {
    if (view.isAlongBatch) {
      fillAlong(view, meeting);
      continue;
    }
    const around = view.canvas.closest("figure");
    around.hidden = view.metric === state.up;
    if (!view.canvas.dataset.metric) around.querySelector("figcaption").textContent = `Against ${metrics.get(view.metric).label}`;
    view.points = pointsOf(view, all);
    const met = new Set(view.points.filter((point) => point.one.meets).map((point) => point.one.row.model)).size;
    view.canvas.setAttribute("aria-label", `${metrics.get(state.up).label} against ${metrics.get(view.metric).label}: `
      + `${view.points.length} points, ${met} networks meet the limits. The table below has the figures.`);
  }
}

function fillAlong(view, meeting) {
  const sweeps = new Set([...meeting].map((row) => `${row.index} ${row.sweep}`));
  const models = new Set([...meeting].map((row) => row.model));
  view.lines = linesOf(view.up);
  for (const points of view.lines) {
    const { index, sweep } = points[0].one.row;
    for (const [place, point] of points.entries()) {
      point.one.meets = sweeps.has(`${index} ${sweep}`);
      point.isInner = place < points.length - 1;
    }
  }
  view.points = view.lines.flat();
  const drawn = new Set(view.points.map((point) => point.one.row.model));
  view.canvas.setAttribute("aria-label", `${metrics.get(view.up).label} against batch size: ${drawn.size} networks, `
    + `${[...drawn].filter((model) => models.has(model)).length} meet the limits. The folded table below has the figures.`);
}

function nearestPoint(view, x, y) {
  let [best, least] = [null, Infinity];
  for (const point of view.points) {
    if (!point.at || !sought(point.one.row)) continue;
    const away = Math.hypot(point.at[0] - x, point.at[1] - y) - point.radius;
    if (away < 6 && away + (point.one.meets ? 0 : 1) < least) [best, least] = [point, away];
  }
  return best;
}

function point(view, event) {
  const found = event ? nearestPoint(view, event.offsetX, event.offsetY) : null;
  const tip = element("explorer-tip");
  tip.hidden = !found;
  if (found) {
    tip.textContent = named(found.one.row, view.up, view.metric, "params")
      + [found.x, found.y].filter((one) => one.origin === "e").map((one) => `; ${metrics.get(one.metric).label} estimated`).join("");
    tip.style.left = `${Math.min(event.clientX + 14, window.innerWidth - 300)}px`;
    tip.style.top = `${event.clientY + 14}px`;
  }
  const name = found?.one.row.model ?? "";
  if (name === pointed) return;
  pointed = name;
  requestAnimationFrame(drawAll);
}

function choose(model) {
  state.network = state.network === model ? "" : model;
  for (const button of document.querySelectorAll("#explorer .network")) {
    button.setAttribute("aria-pressed", String(button.textContent === state.network));
  }
  keep();
  drawAll();
}

function fillLegend() {
  const entries = [...large.filter((name) => counted.get(name)), ...(counted.size > large.length ? [""] : [])];
  element("explorer-legend").replaceChildren(...entries.map((name) => {
    const entry = made("span", "");
    const canvas = made("canvas", "", { "aria-hidden": "true", width: 36, height: 36 });
    const pen = canvas.getContext("2d");
    const look = lookOf(name);
    pen.fillStyle = colours[look.colour];
    pen.beginPath();
    look.shape(pen, 18, 18, 10);
    pen.fill();
    entry.append(canvas, name || "other families");
    return entry;
  }), made("span", "filled: measured or counted; paler: published; hollow and dashed: estimated; hollow: grade C; "
    + "area: parameters; bars: intervals; dotted steps: the Pareto front; dashed line: estimated; faint: outside the limits"));
}

// ------------------------------------------------------------------ what happens when something is moved

let keeping;
function keep() {
  element("explorer-link").setAttribute("href", address());
  clearTimeout(keeping); // browsers refuse an address that changes too often
  keeping = setTimeout(() => history.replaceState(null, "", address()), 250);
}

function refresh(moved) {
  showControls(moved);
  const asked = [state.by, "latency", ...limits().map((limit) => limit.metric)];
  latest = pick(candidates(), limits(), state.by, state.trust);
  showAnswer(latest, asked);
  fillTable(latest);
  fillFolded();
  fillViews(latest);
  drawAll();
}

let waiting;
function changed(moved) {
  keep();
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(() => refresh(moved));
}

function setLimit(metric, typed, moved) {
  if (typed === undefined) delete state.limits[metric.name];
  else state.limits[metric.name] = typed;
  changed(moved);
}

function listen() {
  for (const metric of limited) {
    const [number, slider] = [element(`limit-${metric.option}`), element(`slide-${metric.option}`)];
    number.addEventListener("input", () => {
      const typed = number.valueAsNumber;
      setLimit(metric, Number.isFinite(typed) && typed >= 0 ? String(typed) : undefined, number);
    });
    slider.addEventListener("input", () => {
      const step = slider.valueAsNumber;
      setLimit(metric, step === looseEnd(metric) ? undefined : typedAt(metric, step), slider);
    });
  }
  for (const name of choices) {
    element(`explorer-${name}`)?.addEventListener("change", (event) => {
      state[name] = event.target.value;
      changed();
    });
  }
  element("explorer-log").addEventListener("change", (event) => {
    state.log = event.target.checked ? "1" : "0";
    changed();
  });
  element("explorer-search").addEventListener("input", (event) => {
    state.search = event.target.value.trim();
    changed(event.target);
  });
  element("explorer-form").addEventListener("submit", (event) => event.preventDefault());
  for (const one of foldedTables) {
    one.addEventListener("toggle", () => {
      const open = foldedTables.filter((other) => other.open).map((other) => other.dataset.table).join(",");
      if (open === state.open) return;
      state.open = open;
      changed();
    });
  }
  element("explorer-reset").addEventListener("click", () => {
    state = fresh();
    changed();
  });
  element("explorer-all").addEventListener("click", () => {
    everything = true;
    refresh();
    element("explorer-table").querySelector("tbody button")?.focus();
  });
  for (const view of views) {
    view.canvas.addEventListener("pointermove", (event) => point(view, event));
    view.canvas.addEventListener("pointerleave", () => point(view, null));
    view.canvas.addEventListener("click", (event) => {
      const found = nearestPoint(view, event.offsetX, event.offsetY);
      if (found) choose(found.one.row.model);
    });
  }
  addEventListener("hashchange", () => {
    if (!location.hash.startsWith(PREFIX)) return;
    state = restored();
    refresh();
  });
  addEventListener("resize", () => requestAnimationFrame(drawAll));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    readColours();
    drawAll();
    fillLegend();
  });
  const print = (isPrinting) => {
    element("explorer").classList.toggle("printing", isPrinting);
    readColours();
    drawAll();
  };
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
}

Object.assign(usual, fresh());
element("explorer-table").tHead.append(made("tr", ""));
element("explorer-table").tHead.rows[0].append(...COLUMNS.map(heading));
element("explorer-body").hidden = false;
state = restored();
readColours();
listen();
refresh();
fillLegend();
performance.mark("explorer drawn");
// but a reloaded page stays where it was
const isReload = performance.getEntriesByType("navigation")[0]?.type === "reload";
if (location.hash.startsWith(PREFIX) && !isReload) element("explorer").scrollIntoView({ behavior: "instant" });
