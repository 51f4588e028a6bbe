// Drawn parameters: the rule of drawing.py, bit for bit, from names alone. A page that has a network's graph
// makes the parameters that it is measured with, and downloads no weights.

/** Centre and half-width of a parameter's values; `level` is the network's own in levels.json, or 1. */
export function scaleOf(key, shape, level = 1) {
  if (key === "images") return [0, Math.fround(Math.sqrt(3))];
  const kind = key.slice(key.lastIndexOf(".") + 1);
  if (kind === "running_var") return [1, 0.5];
  if (kind === "running_mean") return [0, 0.25];
  if (shape.length < 2 || kind === "gain") return [kind.includes("bias") ? 0 : Math.fround(level), 0.25];
  const inputs = shape.slice(1).reduce((product, extent) => product * extent, 1);
  return [0, Math.fround(Math.sqrt(4.5 / Math.max(1, inputs)))];
}

/** The 32-bit FNV-1a hash of NETWORK/KEY in UTF-8. */
export function seed(network, key) {
  let number = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(`${network}/${key}`)) {
    number = Math.imul(number ^ byte, 0x01000193);
  }
  return number >>> 0;
}

/** The parameter `key`, its name in the state dict, of a network: a Float32Array in row-major order. */
export function draw(network, key, shape, level = 1) {
  const [centre, width] = scaleOf(key, shape, level);
  const values = new Float32Array(shape.reduce((product, extent) => product * extent, 1));
  const start = seed(network, key);
  for (let element = 0; element < values.length; element++) {
    let number = (start + Math.imul(element, 0x9e3779b9)) | 0;
    number = Math.imul(number ^ (number >>> 16), 0x85ebca6b);
    number = Math.imul(number ^ (number >>> 13), 0xc2b2ae35);
    number ^= number >>> 16;
    const uniform = (2 * (number >>> 8) + 1 - 0x1000000) / 0x1000000;
    values[element] = centre + Math.fround(width * uniform);
  }
  return values;
}
