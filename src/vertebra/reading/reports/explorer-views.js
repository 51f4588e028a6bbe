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
// The twelve largest families have a colour each, and a shape that those of a like colour don't have.
const counted = new Map();
for (const name of data.families) counted.set(name, (counted.get(name) ?? 0) + 1);
const large = [...counted].sort((one, other) => other[1] - one[1]).slice(0, 12).map(([name]) => name);
const looks = new Map(large.map((name, place) => [name, { colour: `--family-${place}`, shape: SHAPES[(place + 3 * Math.floor(place / 6)) % 6] }]));
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
  for (const name of ["--paper", "--ink", "--faint", "--line", "--accent", "--family-other", ...large.map((_, place) => `--family-${place}`)]) {
    colours[name] = style.getPropertyValue(name).trim();
  }
}

function scaleOf(least, most, from, to, isLogarithmic) {
  const bend = isLogarithmic ? Math.log10 : (value) => value;
  const [a, b] = [bend(least), bend(most)];
  const pad = WIDEST + 3; // so that the largest ball is whole
  const room = ((b - a || 1) * pad) / (Math.abs(to - from) - 2 * pad);
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
// Of more points than this, only the front, the choice and what was looked for are drawn in full, and what meets the
// limits if that is not too many either; the others are dots, whose density tells where networks are.
const MANY = 150;
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
  const best = view.isAlongBatch ? [] : frontOf(view, points);
  const inFull = foremost(points, best);
  view.isFew = 2 * points.filter((point) => point.one.meets).length < points.length;
  for (const point of points) if (!inFull.has(point)) dot(pen, view, point);
  if (view.isAlongBatch) for (const points of view.lines) along(pen, points);
  else stairs(pen, view, best);
  const drawn = [...inFull].sort((one, other) => one.one.meets - other.one.meets || other.radius - one.radius);
  for (const point of drawn) interval(pen, point, x, y);
  for (const point of drawn) ball(pen, point);
  canvas.dataset.drawn = drawn.length;
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

const directions = (view) => [metrics.get(view.metric).lower ? 1 : -1, metrics.get(view.up).lower ? -1 : 1];

// The Pareto front of figures with a trusted grade: from the better end, each one better than all before it.
function frontOf(view, points) {
  const [across, up] = directions(view);
  const believed = points.filter(({ x, y }) => [x, y].every((one) => one.grade === "-" || one.grade <= (state.trust === "any" ? "B" : state.trust)))
    .sort((one, other) => across * (one.x.value - other.x.value) || up * (other.y.value - one.y.value));
  let top = -Infinity;
  return believed.filter((point) => {
    const isBetter = up * point.y.value > top;
    if (isBetter) top = up * point.y.value;
    return isBetter;
  });
}

// The points that are drawn in full: all, if they aren't many.
function foremost(points, best) {
  if (points.length <= MANY) return new Set(points);
  const meeting = points.filter((point) => point.one.meets);
  const found = state.search ? points.filter((point) => sought(point.one.row)) : [];
  const marked = [state.network, pointed, latest.ranked[0]?.row.model];
  return new Set([
    ...best, ...points.filter((point) => marked.includes(point.one.row.model)),
    ...[meeting, found].filter((some) => some.length <= MANY).flat(),
  ]);
}

// Those that meet the limits are larger, unless that is most of them.
function dot(pen, view, point) {
  const { meets, row } = point.one;
  pen.globalAlpha = sought(row) ? (meets ? (view.isFew ? 0.7 : 0.45) : 0.2) : 0.08;
  pen.fillStyle = meets ? colours[lookOf(row.family).colour] : colours["--faint"];
  const size = meets && view.isFew ? 3 : 2;
  pen.fillRect(point.at[0] - size / 2, point.at[1] - size / 2, size, size);
  pen.globalAlpha = 1;
}

function stairs(pen, view, best) {
  const [across, up] = directions(view);
  let height = up > 0 ? HEIGHT : 0;
  pen.beginPath();
  for (const [place, point] of best.entries()) {
    pen[place ? "lineTo" : "moveTo"](point.at[0], height);
    pen.lineTo(...point.at);
    [, height] = point.at;
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
    pen.strokeStyle = colours["--paper"];
    pen.lineWidth = 3;
    const text = labelOf(model);
    const place = labelPlace(point, pen.measureText(text).width, width);
    pen.strokeText(text, ...place);
    pen.fillText(text, ...place);
  }
}

// To the right of its mark, or to the left if only that has room; else above it, or below if that is the edge.
function labelPlace({ at: [x, y], radius }, wide, width) {
  const away = radius + 8;
  if (x + away + wide < width) return [x + away, y + 4];
  if (x - away - wide > 0) return [x - away - wide, y + 4];
  return [Math.max(2, Math.min(x - wide / 2, width - wide - 2)), y > MARGIN.top + away + 14 ? y - away : y + away + 10];
}

// Names differ at their ends, so a long one has dots in its middle.
const labelOf = (model) => (model.length > 40 ? `${model.slice(0, 12)}…${model.slice(-27)}` : model);

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
    if (!view.canvas.dataset.metric) around.querySelector("figcaption").textContent = `Against ${metrics.get(view.metric).label}`;
    view.points = pointsOf(view, all);
    const wasChosen = !view.canvas.dataset.metric && state.across !== usual.across;
    around.hidden = view.metric === state.up || (view.points.length === 0 && !wasChosen);
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
  view.canvas.closest("figure").hidden = view.points.length === 0;
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
;
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, window.innerWidth - 300))}px`;
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
    + "area: parameters; bars: intervals; dotted steps: the Pareto front; dashed line: estimated; faint: outside the limits"
    + (data.models.length > MANY ? "; small dots: the other networks" : "")));
}

