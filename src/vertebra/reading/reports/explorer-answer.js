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
  const parts = [...new Set(asked)].filter((name) => metrics.has(name))
    .map((name) => figure(row, name)).filter(Boolean)
    .map((one) => `${metrics.get(one.metric).label} ${ORIGINS[one.origin]}`);
  return `Origin: ${parts.join(", ")}.${row.form ? ` Conditions: ${row.form}.` : ""}`;
}

function command() {
  const load = data.loads[Number(state.load)];
  const parts = [data.command, load?.options ?? "", ...limited.filter((metric) => state.limits[metric.name] !== undefined)
    .map((metric) => `--${metric.option} ${state.limits[metric.name]}${metric.typed}`)];
  const batch = load?.batch_size ?? 1;
  if (state.by !== "top1") parts.push(`--by ${state.by}`);
  if (state.trust !== "any") parts.push(`--trust ${state.trust}`);
  if (state.engine) parts.push(`--engine ${state.engine}`);
  if (batch !== 1) parts.push(`--batch-size ${batch}`);
  return parts.filter(Boolean).join(" ");
}

let speaking;
function showAnswer(found, asked) {
  const first = sentence(found, asked);
  clearTimeout(speaking); // so that a moving slider isn't read out at each step
  speaking = setTimeout(() => { element("explorer-spoken").textContent = first; }, 400);
  element("explorer-choice").textContent = first;
  element("explorer-meeting").textContent = `Networks that meet every limit: ${found.ranked.length}.`;
  element("explorer-where").textContent = data.loads.length ? `${data.loads[Number(state.load)].label}.` : "";
  const parts = [];
  if (found.ranked.length) parts.push(made("p", origins(found.ranked[0].row, asked), { class: "note" }));
  if (found.ranked.length > 1) {
    parts.push(made("p", `Runner-up: ${named(found.ranked[1].row, ...asked)}.`, { id: "explorer-runner-up" }));
  }
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
  const same = made("p", data.same ?? "On the command line: ", { class: "note" });
  same.append(made("code", command(), { id: "explorer-command" }));
  element("explorer-answer").replaceChildren(...parts, same);
}

// ------------------------------------------------------------------ the table

const capital = (label) => label[0].toUpperCase() + label.slice(1);
// What most readers choose by stands first.
const FIRST = ["top1", "latency", "fps", "memory_total", "params", "operations"];
const SHORT = { top1: "Top-1", top5: "Top-5", fps: "FPS", memory_total: "Memory", weight_bytes: "Weights", macs: "MACs" };
const orderly = (metric) => (FIRST.includes(metric.name) ? FIRST.indexOf(metric.name) : FIRST.length);
const COLUMNS = [
  { key: "network", label: "Network" },
  ...[...data.metrics].sort((one, other) => orderly(one) - orderly(other)).map((metric) => ({
    key: metric.name, label: SHORT[metric.name] ?? capital(metric.label), number: true,
  })),
  { key: "verdict", label: "Under the limits" },
  ...(data.forms.some(Boolean) ? [{ key: "form", label: "Conditions" }] : []),
];
let everything = false;
let lines = [];

function heading(column) {
  const cell = made("th", "", { scope: "col", class: column.number ? "number" : column.key === "form" ? "form" : "text" });
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
  if (!column.number) {
    const text = column.key === "form" ? brieflyRun(one.row) : one.meets ? "met" : why(one);
    return made("td", text, { class: `line ${column.key}`, title: column.key === "form" ? one.row.form : text });
  }
  const found = figure(one.row, column.key);
  const cell = made("td", found ? marked(found) : "", { class: found?.origin === "e" ? "number estimated" : "number" });
  if (found && found.grade !== "-") {
    cell.append(" ", made("span", found.grade, { class: `grade grade-${found.grade.toLowerCase()}`, title: found.reason || `grade ${found.grade}` }));
  }
  if (found && intervalOf(found)) cell.append(made("small", intervalOf(found)));
  return cell;
}

// Conditions that all lines of the table share stand above it, and only the others in its lines.
let shared = new Set();
const brieflyRun = (row) => row.parts.filter((part) => !shared.has(part)).join(", ");

function findShared(found) {
  const forms = [...new Set(found.map((one) => one.row.parts).filter((parts) => parts.length))];
  shared = new Set(forms.length ? forms[0].filter((part) => forms.every((parts) => parts.includes(part))) : []);
  const differ = forms.some((parts) => parts.length > shared.size);
  element("explorer-table").classList.toggle("one-form", !differ);
  element("explorer-shared").textContent = (shared.size ? `Those that ran: ${[...shared].join(", ")}. ` : "")
    + (hasEstimates ? "~: estimated. " : "") + "Small: the interval.";
  // a metric that nothing has here needs no column
  const known = new Set(COLUMNS.filter((column) => !column.number || found.some((one) => figure(one.row, column.key))));
  [...element("explorer-table").tHead.rows[0].cells].forEach((cell, place) => { cell.hidden = !known.has(COLUMNS[place]); });
  shownColumns = COLUMNS.filter((column) => known.has(column));
}
const hasEstimates = Object.values(data.columns).some((column) => column.origin.includes("e"));
let shownColumns = COLUMNS;

function networkButton(model) {
  const button = made("button", model, { type: "button", class: "network", "aria-pressed": String(model === state.network) });
  button.addEventListener("click", () => choose(model));
  return button;
}

function lineOf(one) {
  const line = made("tr", "");
  const name = made("th", "", { scope: "row", title: one.row.model });
  name.append(networkButton(one.row.model));
  line.append(name, ...shownColumns.slice(1).map((column) => cellOf(one, column)));
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
  findShared(lines);
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

