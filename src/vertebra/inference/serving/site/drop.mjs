// The page on which a picture is dropped: it asks this server as any client does.
const [model, drop, file, picture, status, classes] =
  ["model", "drop", "file", "picture", "status", "classes"].map((id) => document.getElementById(id));
let newest = 0;

function say(text, isError = false) {
  status.textContent = text;
  status.className = isError ? "error" : "";
}

async function answered(response) {
  const body = await response.json();
  if (!response.ok) throw new Error(body.error);
  return body;
}

// A binary tensor of one element: its length, then its bytes.
function question(content) {
  const input = { name: "images", shape: [1], datatype: "BYTES", parameters: { binary_data_size: content.byteLength + 4 } };
  const outputs = [{ name: "probabilities", parameters: { classification: 5 } }];
  const head = new TextEncoder().encode(JSON.stringify({ inputs: [input], outputs }));
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, content.byteLength, true);
  return { head, body: new Blob([head, length, content]) };
}

async function classify(given) {
  const asked = ++newest;
  classes.hidden = true;
  URL.revokeObjectURL(picture.src);
  picture.src = URL.createObjectURL(given);
  picture.alt = given.name || "the picture";
  picture.hidden = false;
  say("Asking…");
  try {
    const { head, body } = question(await given.arrayBuffer());
    const headers = { "Content-Type": "application/octet-stream", "Inference-Header-Content-Length": String(head.length) };
    const answer = await answered(
      await fetch(`v2/models/${encodeURIComponent(model.value)}/infer`, { method: "POST", headers, body }));
    if (asked === newest) show(answer.outputs[0].data, Object.values(answer.parameters ?? {}));
  } catch (error) {
    if (asked === newest) say(error.message, true);
  }
}

function show(lines, remarks) {
  const rows = lines.map((line) => {
    const [value, index, ...name] = line.split(":");
    const row = document.createElement("tr");
    for (const text of [name.join(":") || `class ${index}`, `${(100 * value).toFixed(2)} %`]) {
      row.insertCell().textContent = text;
    }
    return row;
  });
  classes.tBodies[0].replaceChildren(...rows);
  classes.hidden = false;
  say(remarks.length ? `Careful: ${remarks.join("; ")}.` : "Done.", remarks.length > 0);
}

function first(files) {
  const given = [...files].find((one) => one.type.startsWith("image/") || one.size > 0);
  if (given) classify(given);
}

file.addEventListener("change", () => first(file.files));
drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  first(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => first(event.clipboardData.files));

try {
  const index = await answered(await fetch("v2/repository/index", { method: "POST", body: '{"ready": true}' }));
  for (const name of new Set(index.map((one) => one.name))) model.add(new Option(name));
  say(index.length ? "Ready." : "No model is ready.", !index.length);
} catch (error) {
  say(error.message, true);
}
