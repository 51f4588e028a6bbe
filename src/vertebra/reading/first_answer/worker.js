// Runs networks and times them, in its own thread. `drawing.mjs` stands before this: `draw` makes the parameters.

const REPEATED = 50; // a sample lasts at least so many steps of the clock
const ROUND_S = 1.0; // a round of one network: at least so long,
const [FEWEST, MOST] = [6, 60]; // at least so many samples, and at most so many;
const [LONGEST_S, LEAST] = [3, 3]; // after so long, so many are enough: with those of the other round there is an interval
const WARM_UP_S = 0.3; // before each round, and at least two inferences

let ort;
let backend;
const sessions = new Map();
const now = () => performance.now() / 1000;

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The smallest difference that the clock shows, in seconds. */
function clockStep() {
  let [least, last] = [Infinity, now()];
  for (const end = last + 0.05; last < end;) {
    const next = now();
    if (next > last) least = Math.min(least, next - last);
    last = next;
  }
  return least;
}

async function start(asked) {
  backend = asked.backend;
  const library = URL.createObjectURL(new Blob([await unpacked(asked.library)], { type: "text/javascript" }));
  ort = await import(library);
  ort.env.wasm.wasmBinary = (await unpacked(asked.binary)).buffer;
  ort.env.wasm.numThreads = asked.threads;
  ort.env.wasm.proxy = false;
  ort.env.logLevel = "error";
  return { step: clockStep() };
}

/** Draw the parameters of a network, open it and let it answer once. */
async function prepare({ network }) {
  const file = new Uint8Array(network.bytes);
  for (const [name, offset, ...shape] of network.parameters) {
    const values = draw(network.name, name, shape, network.level);
    file.set(new Uint8Array(values.buffer), offset);
  }
  const session = await ort.InferenceSession.create(await unpacked(network.graph), {
    executionProviders: [backend], graphOptimizationLevel: "all",
    externalData: [{ path: "model.onnx.data", data: file }],
  });
  const images = draw(network.name, "images", [1, 3, network.size, network.size]);
  const feeds = { [session.inputNames[0]]: new ort.Tensor("float32", images, [1, 3, network.size, network.size]) };
  sessions.set(network.name, { session, feeds });
  const logits = await run(network.name);
  if (!logits.every(Number.isFinite)) throw new Error("its answer has values that are not finite");
  return { logits };
}

async function run(name) {
  const { session, feeds } = sessions.get(name);
  const outputs = await session.run(feeds);
  return outputs[session.outputNames[0]].data;
}

/** Seconds per inference, sample by sample. A sample is several inferences where the clock is coarse. */
async function round({ name, step }) {
  let runs = 0;
  const begin = now();
  while (runs < 2 || now() - begin < WARM_UP_S) {
    await run(name);
    runs += 1;
  }
  const once = (now() - begin) / runs;
  const times = Math.max(1, Math.ceil((REPEATED * step) / once));
  const samples = [];
  const first = now();
  const goesOn = (spent) => samples.length < LEAST || (samples.length < FEWEST && spent < LONGEST_S)
    || (samples.length < MOST && spent < ROUND_S);
  while (goesOn(now() - first)) {
    const before = now();
    for (let time = 0; time < times; time += 1) await run(name);
    samples.push((now() - before) / times);
  }
  return { samples };
}

const WORK = { start, prepare, round };
self.onmessage = async ({ data }) => {
  try {
    postMessage({ number: data.number, done: await WORK[data.what](data) });
  } catch (error) {
    postMessage({ number: data.number, failed: String(error?.message ?? error) });
  }
};
