// Loads the Bundle next to this file once, then answers one picture after another.

import * as ort from "./runtime/ort.wasm.bundle.min.mjs";
import { decode } from "./decode.mjs";
import { preprocess } from "./preprocess.mjs";

const here = (name) => new URL(name, import.meta.url).href;

ort.env.wasm.wasmPaths = { wasm: here("runtime/ort-wasm-simd-threaded.wasm") };
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 8) : 1;

const started = load();
started.catch((error) => postMessage({ kind: "error", message: `The network can't be loaded: ${error.message}` }));
let queue = started;
self.onmessage = ({ data }) => {
  queue = queue.then(() => answer(data), () => {});
};

async function load() {
  const manifest = await json("bundle/vertebra.json");
  const page = await json("page.json");
  const labels = manifest.labels === null ? null : await json("bundle/labels.json");
  const names = ["model.onnx", "model.onnx.data"].filter((name) => name in manifest.files);
  const files = await fetched(names, manifest.files);
  const externalData = names.slice(1).map((path, place) => ({ path, data: files[place + 1] }));
  const session = await ort.InferenceSession.create(files[0], {
    executionProviders: ["wasm"],
    graphOptimizationLevel: "all",
    externalData,
  });
  const about = [`Network: ${manifest.model}`, manifest.weights ? `weights ${manifest.weights}` : "untrained"];
  if (manifest.licence) about.push(`licence ${manifest.licence}`);
  const name = `Answers by the network ${readable(manifest.model)}`;
  postMessage({
    kind: "ready", about: about.join(", "), name: manifest.weights ? name : `${name}, which is untrained: they are random`,
  });
  return { manifest, page, labels, session };
}

// "timm:tf_efficientnet_lite0" as people say it: "efficientnet lite0"; "squeezenet1_1": "squeezenet1.1"; of a file, its name.
function readable(model) {
  const last = model.split(/[:/\\]/).filter(Boolean).at(-1) ?? model;
  return last.replace(/\.onnx$/, "").replace(/^tf_(?=.)/, "").replace(/([a-z][0-9])_([0-9])$/, "$1.$2").replaceAll("_", " ").trim() || model;
}

async function json(name) {
  return (await response(name)).json();
}

async function response(name) {
  const found = await fetch(here(name));
  if (!found.ok) throw new Error(`the server answered ${found.status} for ${name}`);
  return found;
}

// Contents of files of the Bundle, each of the size in its manifest.
async function fetched(names, records) {
  const total = names.reduce((sum, name) => sum + records[name].bytes, 0);
  let done = 0;
  const contents = [];
  for (const name of names) {
    const content = new Uint8Array(records[name].bytes);
    let filled = 0;
    for await (const chunk of chunks(await response(`bundle/${name}`))) {
      if (filled + chunk.length > content.length) throw new Error(`${name} is larger than when it was written`);
      content.set(chunk, filled);
      filled += chunk.length;
      done += chunk.length;
      postMessage({ kind: "loading", done, total });
    }
    if (filled !== content.length) throw new Error(`${name} is incomplete`);
    contents.push(content);
  }
  return contents;
}

async function* chunks(found) {
  const reader = found.body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
}

async function answer({ number, file }) {
  try {
    const { manifest, page, labels, session } = await started;
    const times = [performance.now()];
    const picture = await decode(file, manifest.preprocess);
    times.push(performance.now());
    const values = preprocess(picture, manifest.preprocess);
    times.push(performance.now());
    const [height, width] = manifest.preprocess.input_size;
    const images = new ort.Tensor("float32", values, [1, 3, height, width]);
    const outputs = await session.run({ [session.inputNames[0]]: images });
    const logits = outputs[session.outputNames[0]].data;
    times.push(performance.now());
    const shares = page.gives_probabilities ? Float64Array.from(logits) : softmax(logits);
    if (!shares.every(Number.isFinite)) throw new Error("the network's answer has values that are not finite");
    postMessage({
      kind: "answer",
      number,
      top: best(shares, 5).map((index) => ({ index, name: called(labels, index), probability: shares[index] })),
      milliseconds: { decode: times[1] - times[0], preprocess: times[2] - times[1], network: times[3] - times[2] },
    });
  } catch (error) {
    postMessage({ kind: "error", number, message: `No answer: ${error.message}` });
  }
}

function softmax(logits) {
  const largest = logits.reduce((most, value) => Math.max(most, value), -Infinity);
  const powers = Float64Array.from(logits, (value) => Math.exp(value - largest));
  const sum = powers.reduce((total, value) => total + value, 0);
  return powers.map((value) => value / sum);
}

// Indices of the largest values; of equal ones, the lower first.
function best(shares, count) {
  return Array.from(shares.keys()).sort((a, b) => shares[b] - shares[a] || a - b).slice(0, count);
}

function called(labels, index) {
  if (labels === null) return `class ${index}`;
  const label = labels[String(index)];
  return Array.isArray(label) ? label[1] : label;
}
