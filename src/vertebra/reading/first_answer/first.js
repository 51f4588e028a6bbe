// The page: asks, measures in a worker, prices every network, and opens the explorer.

const BACKENDS = { wasm: "WebAssembly", webgpu: "WebGPU" };
const ROUNDS = 2;
const MOST_REPEATS = 5;
const find = (id) => document.getElementById(id);
const known = JSON.parse(find("first-data").textContent);
const prior = priorOf(known.prior);
const notes = new Set();

function say(text, isError = false) {
  find("first-status").textContent = text;
  find("first-status").classList.toggle("error", isError);
}

function note(text) {
  notes.add(text);
  find("first-notes").replaceChildren(...[...notes].map((one) => Object.assign(document.createElement("li"), { textContent: one })));
}

/** The browser's name and version, in two words. */
function browserName() {
  const brand = navigator.userAgentData?.brands?.find(({ brand: name }) => !/not|chromium/i.test(name))
    ?? navigator.userAgentData?.brands?.find(({ brand: name }) => /chromium/i.test(name));
  if (brand) return `${brand.brand} ${brand.version}`;
  const [, name, version] = /(Firefox|Edg|OPR|Chrome)\/([0-9]+)/.exec(navigator.userAgent)
    ?? (/Version\/([0-9]+).*(Safari)/.exec(navigator.userAgent)?.map((_, place, all) => all[[0, 2, 1][place]]) ?? [, "a browser", ""]);
  return `${name} ${version}`.trim();
}

/** Why nothing can be measured in this browser; empty where it can. */
function obstacle(backend) {
  const missing = [
    [typeof globalThis.WebAssembly === "object", "WebAssembly"], [typeof Worker === "function", "workers"],
    [typeof DecompressionStream === "function", "DecompressionStream"],
    [backend !== "webgpu" || typeof globalThis.WebAssembly?.Suspending === "function", "WebAssembly's JSPI, which WebGPU needs here"],
  ].filter(([there]) => !there).map(([, name]) => name);
  return missing.length ? `This browser can't run networks: it has no ${missing.join(", no ")}. Use a newer one, or allow it in the settings.` : "";
}

/** The runtime of a backend: a script of this folder, which is loaded only when it is wanted. */
function runtime(backend) {
  return new Promise((loaded, failed) => {
    const script = document.createElement("script");
    script.src = `runtime-${backend}.js`;
    script.addEventListener("load", () => {
      const found = globalThis.VERTEBRA_RUNTIME?.[backend];
      if (found) loaded(found);
      else failed(new Error(`${script.src} is not a runtime of this page.`));
    });
    script.addEventListener("error", () => failed(new Error(`runtime-${backend}.js can't be loaded. Is this device offline, or does the page's folder lack it?`)));
    document.head.append(script);
  });
}

/** A worker whose work is asked for by name. */
function workshop() {
  const worker = new Worker(URL.createObjectURL(new Blob([find("first-worker").textContent], { type: "text/javascript" })));
  const waiting = new Map();
  let number = 0;
  const fail = (message) => { for (const { failed } of waiting.values()) failed(new Error(message)); waiting.clear(); };
  worker.addEventListener("message", ({ data }) => {
    const { done, failed } = waiting.get(data.number) ?? {};
    waiting.delete(data.number);
    if ("failed" in data) failed?.(new Error(data.failed));
    else done?.(data.done);
  });
  worker.addEventListener("error", (event) => fail(event.message || "the worker can't be started"));
  return {
    ask: (what, more = {}) => new Promise((done, failed) => {
      number += 1;
      waiting.set(number, { done, failed });
      worker.postMessage({ what, number, ...more });
    }),
    end: () => worker.terminate(),
  };
}

// ------------------------------------------------------------------ a tab that nobody sees is slowed by the browser

let wasHidden = document.hidden;
document.addEventListener("visibilitychange", () => { wasHidden ||= document.hidden; });

async function inSight() {
  if (document.hidden) {
    say("This tab is hidden, and browsers slow hidden tabs. Measuring goes on when you come back to it.");
    await new Promise((seen) => document.addEventListener("visibilitychange", function here() {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", here);
      seen();
    }));
  }
  wasHidden = false;
}

/** What `work` gives while the tab is in sight all the time; again where it wasn't. */
async function undisturbed(name, work) {
  for (let time = 0; time < MOST_REPEATS; time += 1) {
    await inSight();
    const found = await work();
    if (!wasHidden) return found;
    note(`The tab was hidden while ${name} ran; it was measured again.`);
  }
  throw new Error(`the tab was hidden ${MOST_REPEATS} times while it ran`);
}

// ------------------------------------------------------------------ measuring

async function measured(backend) {
  const threads = backend === "wasm" && globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 8) : 1;
  if (backend === "wasm" && !globalThis.crossOriginIsolated) {
    note("One thread: browsers allow several only on pages whose server isolates them (cross-origin isolation).");
  }
  say(`Loading ONNX Runtime Web (${known.runtimes[backend]} MB) …`);
  const { library, binary } = await runtime(backend);
  const shop = workshop();
  try {
    const { step } = await shop.ask("start", { backend, threads, library, binary });
    if (step > 0.002) note(`This browser's clock has steps of ${(1000 * step).toFixed(0)} ms, so several inferences make one sample.`);
    return { backend, threads, times: await timesOf(shop, step) };
  } finally {
    shop.end();
  }
}

async function timesOf(shop, step) {
  const rounds = new Map();
  let work = 0;
  const all = known.networks.length * (1 + ROUNDS);
  const fewest = prior.constants.fewest;
  const attempt = async (network, doing, task) => {
    find("first-progress").value = work / all;
    work += 1;
    say(`${doing} ${network.name} (${(network.bytes / 4e6).toFixed(1)} M parameters) …`);
    try {
      return await task();
    } catch (error) {
      rounds.delete(network.name);
      note(`${network.name} can't be measured here: ${error.message}.`);
      return null;
    }
  };
  for (const network of known.networks) {
    rounds.set(network.name, []);
    await attempt(network, "Preparing", () => shop.ask("prepare", { network }));
  }
  for (let time = 0; time < ROUNDS; time += 1) {
    for (const network of known.networks.filter(({ name }) => rounds.has(name))) {
      const found = await attempt(network, `Round ${time + 1} of ${ROUNDS}: timing`,
        () => undisturbed(network.name, () => shop.ask("round", { name: network.name, step })));
      if (found) rounds.get(network.name).push(found.samples);
    }
  }
  if (rounds.size < fewest) throw new Error(`Only ${rounds.size} of ${known.networks.length} networks ran; ${fewest} are needed to estimate the others.`);
  return new Map([...rounds].map(([name, found]) => [name, summary(found)]));
}

// ------------------------------------------------------------------ the answer

function show(device, isFromLink) {
  const { backend, threads, date, browser, version, times } = device;
  const engine = `ONNX Runtime Web ${version}`;
  const { rows, note: how, warnings: leftOut } = priced(prior, times, engine);
  const conditions = [browser, engine, BACKENDS[backend], "float32", ...(backend === "wasm" ? [threads === 1 ? "1 thread" : `${threads} threads`] : []), "batch 1"];
  const where = isFromLink ? "the device of this link" : "this device";
  const data = withPrices(known.explorer, rows);
  data.loads[0] = { ...data.loads[0], label: `Estimated for ${where} in its browser on ${date}: ${conditions.join(", ")}` };
  data.forms[0] = [where, ...conditions].join(", ");
  data.parts[0] = conditions;
  data.carried = { [CARRIED]: written(device) };
  find("explorer-data").textContent = JSON.stringify(data);
  for (const one of leftOut) note(`${one}.`);
  const disturbed = [...times].filter(([, { grade }]) => grade === "C").map(([name]) => name);
  if (disturbed.length) note(`Disturbed: ${disturbed.join(", ")}. Something else ran on the device; close it and measure again.`);
  const list = [...times].map(([name, one]) => {
    const line = document.createElement("tr");
    const ms = (seconds) => (1000 * seconds).toPrecision(3);
    const cells = [name, `${ms(one.value)} ms`, `${ms(one.low)} to ${ms(one.high)} ms`, one.grade];
    line.append(...cells.map((text, place) => Object.assign(document.createElement(place ? "td" : "th"), { textContent: text, ...(place ? {} : { scope: "row" }) })));
    return line;
  });
  find("first-times").replaceChildren(...list);
  find("first-how").textContent = `Latencies of ${rows.size - times.size} networks are ${how}. They hold for ${BACKENDS[backend]} in ${isFromLink ? "that" : "this"} browser, not for a native engine on the same device. `
    + "None of the machines that estimates learn from is a browser: networks with layers that browsers run badly, such as ConvNeXt's, can be several times slower.";
  say(isFromLink ? `From a link: a device measured on ${date} in ${browser}.` : `Measured ${times.size} networks on this device; ${rows.size - times.size} are estimated.`);
  find("first-work").hidden = true;
  find("first-result").hidden = false;
  find("explorer-data").dataset.ready = "yes";
  if (!isFromLink) history.replaceState(null, "", linkOf(data.carried[CARRIED]));
  document.body.append(Object.assign(document.createElement("script"), { type: "module", textContent: find("explorer-script").textContent }));
  performance.mark("first answer");
}

/** This address with the times, and the limits that it has. */
function linkOf(carried) {
  const parts = new URLSearchParams(location.hash.startsWith("#explorer?") ? location.hash.slice("#explorer?".length) : "");
  if (!parts.size && Object.keys(known.explorer.start).length) for (const [name, text] of Object.entries(known.explorer.start)) parts.set(name, text);
  parts.set(CARRIED, carried);
  return `#explorer?${parts}`;
}

async function begin() {
  const backend = document.querySelector("input[name=backend]:checked")?.value ?? "wasm";
  const why = obstacle(backend);
  if (why) {
    say(why, true);
    return;
  }
  find("first-start").disabled = true;
  find("first-work").hidden = false;
  notes.clear();
  find("first-notes").replaceChildren();
  try {
    const found = await measured(backend);
    find("first-ask").hidden = true;
    show({ ...found, date: new Date().toISOString().slice(0, 10), browser: browserName(), version: known.version }, false);
  } catch (error) {
    find("first-work").hidden = true;
    find("first-start").disabled = false;
    say(`No answer: ${error.message}`, true);
  }
}

async function offerWebGpu() {
  if (!known.runtimes.webgpu || typeof globalThis.WebAssembly?.Suspending !== "function") return;
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  const isSoftware = adapter?.info?.isFallbackAdapter ?? adapter?.isFallbackAdapter; // slower than WebAssembly
  if (adapter && !isSoftware) find("first-backends").hidden = false;
}

function open() {
  const inLink = timesInLink(location.hash);
  find("first-ask").hidden = false;
  find("first-start").addEventListener("click", begin);
  find("first-again").addEventListener("click", () => {
    const parts = new URLSearchParams(location.hash.slice("#explorer?".length));
    parts.delete(CARRIED);
    history.replaceState(null, "", `#explorer?${parts}`);
    location.reload();
  });
  addEventListener("hashchange", () => {
    const text = timesInLink(location.hash);
    if (text !== null && text !== shownTimes()) location.reload();
  });
  const why = obstacle("wasm");
  if (why) say(why, true);
  else say("Nothing was measured yet.");
  if (inLink !== null) {
    try {
      show(readTimes(inLink, prior), true);
      find("first-ask").hidden = true;
    } catch (error) {
      say(error.message, true);
    }
  }
  offerWebGpu();
}

const shownTimes = () => (find("explorer-data").dataset.ready ? JSON.parse(find("explorer-data").textContent).carried[CARRIED] : null);

open();
