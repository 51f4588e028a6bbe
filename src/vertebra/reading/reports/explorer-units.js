// ------------------------------------------------------------------ quantities, read as the command reads them

// A decimal number: `digits` times ten to the power `exponent`, without rounding.
const NUMBER = /^\s*((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)\s*((?:1\/)?[^\s0-9]*)\s*$/;

function decimal(text) {
  const [, whole, rest = "", power = "0"] = /^([0-9]*)(?:\.([0-9]*))?(?:[eE]([-+]?[0-9]+))?$/.exec(text);
  return { digits: BigInt(whole + rest || "0"), exponent: Number(power) - rest.length };
}

const valueOf = ({ digits, exponent }) => Number(`${digits}e${exponent}`);

// The quantity in base units, or null where `pick` would refuse it.
function quantity(text, unit) {
  const match = text.length > 400 ? null : NUMBER.exec(text);
  if (!match) return null;
  const suffix = match[2].toLowerCase().replaceAll("\u03bc", "\u00b5");
  const suffixes = data.units[unit];
  const scale = Object.hasOwn(suffixes, suffix) ? suffixes[suffix] : null;
  if (!scale && !(unit === "fraction" && suffix === "")) return null;
  const [times, power] = scale ?? ["1", 0];
  const { digits, exponent } = decimal(match[1]);
  const found = { digits: digits * BigInt(times), exponent: exponent + power };
  const value = valueOf(found);
  return Number.isFinite(value) && !(unit === "fraction" && value > 1) ? found : null;
}

// A quantity as a plain decimal number of 10^power base units: "1.1GB" is "1100" MB.
function written({ digits, exponent }, power) {
  const [text, shift] = [String(digits), exponent - power];
  if (Math.abs(shift) > 40) return `${text}e${shift}`;
  if (shift >= 0) return digits === 0n ? "0" : text + "0".repeat(shift);
  const padded = text.padStart(1 - shift, "0");
  return `${padded.slice(0, shift)}.${padded.slice(shift)}`;
}

// What was typed or stood in an address, as a number in the unit of the metric's field; null if it can't be read.
function typedOf(metric, text) {
  const found = quantity(text, metric.unit);
  return found && written(found, metric.power);
}

const inField = (metric, text) => typedOf(metric, /[0-9.]\s*$/.test(text) ? `${text.trim()}${metric.typed}` : text);
const boundOf = (metric, typed) => valueOf(quantity(`${typed}${metric.typed}`, metric.unit));
