// The page: takes a picture, hands it to the worker, shows the answer. Texts are set as text, never as HTML.

const element = (id) => document.getElementById(id);
const status = element("status");
const examples = document.querySelectorAll("#examples button");
let asked = 0;

// A worker from a blob has this page's Content-Security-Policy; one from a file would not.
const entry = `import ${JSON.stringify(new URL("worker.mjs", import.meta.url).href)};`;
const address = URL.createObjectURL(new Blob([entry], { type: "text/javascript" }));
const worker = new Worker(address, { type: "module" });

function report(text, isError = false) {
  status.textContent = text;
  status.classList.toggle("error", isError);
}

const handlers = {
  loading: ({ done, total }) => report(done < total ? `Loading the network: ${Math.floor((100 * done) / total)} %`
    : "Starting the network …"),
  ready: ({ name, about }) => {
    element("network").textContent = name;
    element("about").textContent = about;
    element("file").disabled = false;
    for (const button of examples) button.disabled = false;
    report("Ready.");
  },
  answer: ({ number, top, milliseconds }) => {
    if (number === asked) show(top, milliseconds);
  },
  error: ({ number, message }) => {
    if (number === undefined || number === asked) report(message, true);
  },
};
worker.onmessage = ({ data }) => handlers[data.kind](data);
worker.onerror = (event) => report(`The page can't start: ${event.message ?? "its files are missing"}.`, true);

function classify(file) {
  if (!file || element("file").disabled) return;
  asked += 1;
  URL.revokeObjectURL(element("picture").src);
  element("picture").src = URL.createObjectURL(file);
  element("picture").alt = `The picture chosen: ${file.name}`;
  element("name").textContent = file.name;
  element("shown").hidden = false;
  element("result").hidden = true;
  report("Classifying …");
  worker.postMessage({ number: asked, file });
}

function show(top, milliseconds) {
  element("top").replaceChildren(...top.map(row));
  const { decode, preprocess, network } = milliseconds;
  const whole = decode + preprocess + network;
  element("time").textContent =
    `${whole.toFixed(1)} ms: decoding ${decode.toFixed(1)}, preprocessing ${preprocess.toFixed(1)}, ` +
    `network ${network.toFixed(1)}`;
  element("time").dataset.milliseconds = JSON.stringify(milliseconds);
  element("result").hidden = false;
  report(`${top[0].name}, ${percent(top[0].probability)}`);
  element("time").scrollIntoView({ block: "nearest" });
}

function row({ index, name, probability }) {
  const line = document.createElement("tr");
  line.dataset.index = index;
  line.dataset.probability = probability;
  const called = document.createElement("td");
  called.textContent = name;
  const share = document.createElement("td");
  const bar = document.createElement("meter");
  bar.value = probability;
  bar.setAttribute("aria-hidden", "true");
  share.append(bar, percent(probability));
  line.append(called, share);
  return line;
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

async function tryOut(name) {
  try {
    const found = await fetch(new URL(name, import.meta.url));
    if (!found.ok) throw new Error(`the server answered ${found.status}`);
    classify(new File([await found.blob()], name, { type: "image/jpeg" }));
  } catch (error) {
    report(`The drawing can't be loaded: ${error.message}`, true);
  }
}

for (const button of examples) button.addEventListener("click", () => tryOut(button.dataset.picture));
element("file").addEventListener("change", (event) => classify(event.target.files[0]));
document.addEventListener("paste", (event) => classify(event.clipboardData?.files[0]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  element("drop").classList.add("over");
});
document.addEventListener("dragleave", () => element("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  element("drop").classList.remove("over");
  classify(event.dataTransfer?.files[0]);
});
report("Loading the network …");
