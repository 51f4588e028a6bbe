// ------------------------------------------------------------------ the grid, by the rule of the command `chart grid`

function gridEntry(row, asked) {
  const verdicts = asked.map((limit) => verdict(limit, row));
  if (verdicts.some((one) => one === "broken" || one === "unknown")) return null;
  const reasons = asked.filter((_, place) => verdicts[place] === "borderline").map((limit) => reason(limit, row));
  const judging = [...new Set([state.by, ...asked.map((limit) => limit.metric)])].map((metric) => figure(row, metric));
  for (const one of judging) {
    if (isDoubted(one, state.trust)) reasons.push(`${metrics.get(one.metric).label} is graded ${one.grade}`);
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
    .map((row) => ({ row, rank: [(lower ? 1 : -1) * figure(row, state.by).value, figure(row, "latency")?.value ?? Infinity, data.order[row.index]] }))
    .sort(byRank).map((one) => one.row);
  const [speeds, memories] = ["fps", "memory_total"].map((metric) => data.cells[metric]
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
  const order = (one, other) => compare([one[0].y.value, data.order[one[0].one.row.index]], [other[0].y.value, data.order[other[0].one.row.index]]);
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

