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
      const typed = inField(metric, number.value);
      dropped = [];
      if (number.value.trim() && !typed) drop(metric.option, number.value, `can't be read; write it like ${metric.example}`);
      setLimit(metric, typed ?? undefined, number);
    });
    number.addEventListener("change", () => { number.value = state.limits[metric.name] ?? number.value; });
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
    dropped = [];
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
