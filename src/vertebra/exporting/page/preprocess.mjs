// The Preprocess record, from decoded pixels to a network's input, with the arithmetic of vertebra's own
// implementation: the same grey levels from the same pixels.

// Values (3, H, W) of a picture {height, width, data: RGBA}.
export function preprocess(picture, record) {
  const [height, width] = record.input_size;
  const pixels = cropped(picture, record);
  const values = new Float32Array(3 * height * width);
  for (let channel = 0; channel < 3; channel += 1) {
    const level = levels(record.mean[channel], record.std[channel]);
    const plane = channel * height * width;
    for (let place = 0; place < height * width; place += 1) values[plane + place] = level[pixels[3 * place + channel]];
  }
  return values;
}

// The value of each grey level, rounded to float32 after each step.
function levels(mean, std) {
  const round = Math.fround;
  return Float32Array.from({ length: 256 }, (_, level) =>
    round(round(round(level / 255) - round(mean)) / round(std)),
  );
}

// The crop of the resized picture, RGB, a byte each.
export function cropped(picture, record) {
  const [height, width] = record.input_size;
  const size = resized(record, picture.height, picture.width);
  const [top, left] = corner(record, ...size);
  if (size[0] === picture.height && size[1] === picture.width) return cut(picture, top, left, height, width);
  if (record.interpolation !== "opencv-bilinear") return antialiased(picture, size, top, left, record);
  if (2 * size[0] === picture.height && 2 * size[1] === picture.width) return halved(picture, top, left, height, width);
  return openCvBilinear(picture, size, top, left, record);
}

// [height, width] that a picture is resized to.
export function resized(record, height, width) {
  if (Array.isArray(record.resize)) return record.resize;
  const short = Math.min(height, width);
  if (record.resize_rounding === "nearest") {
    const scale = record.resize / short;
    return [halfToEven(height * scale), halfToEven(width * scale)];
  }
  const long = Math.floor((record.resize * Math.max(height, width)) / short);
  return height <= width ? [record.resize, long] : [long, record.resize];
}

// [top, left] of the crop in a resized picture.
export function corner(record, height, width) {
  const round = record.crop_rounding === "nearest" ? halfToEven : Math.floor;
  return [round((height - record.input_size[0]) / 2), round((width - record.input_size[1]) / 2)];
}

function halfToEven(value) {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

function cut(picture, top, left, height, width) {
  const pixels = new Uint8Array(3 * height * width);
  for (let y = 0, to = 0; y < height; y += 1) {
    for (let x = 0, from = 4 * ((top + y) * picture.width + left); x < width; x += 1, from += 4) {
      for (let channel = 0; channel < 3; channel += 1) pixels[to++] = picture.data[from + channel];
    }
  }
  return pixels;
}

// ------------------------------------------------------------------ Pillow's filters
//
// Weights of 22 bits; rounded to a byte after the horizontal pass and again after the vertical one.

const SUPPORT = { bilinear: 1, bicubic: 2, lanczos: 3 };
const UNIT = 2 ** 22;

function antialiased(picture, size, top, left, record) {
  const [height, width] = record.input_size;
  const rows = taps(picture.height, size[0], top, height, record.interpolation);
  const columns = taps(picture.width, size[1], left, width, record.interpolation);
  const first = rows[0].low;
  const across = new Uint8Array(3 * width * (rows[height - 1].high - first));
  for (let y = first, to = 0; y < rows[height - 1].high; y += 1) {
    for (const { low, high, weights } of columns) {
      let red = UNIT / 2, green = UNIT / 2, blue = UNIT / 2;
      for (let x = low, from = 4 * (y * picture.width + low); x < high; x += 1, from += 4) {
        const weight = weights[x - low];
        red += weight * picture.data[from];
        green += weight * picture.data[from + 1];
        blue += weight * picture.data[from + 2];
      }
      across[to++] = byte(red);
      across[to++] = byte(green);
      across[to++] = byte(blue);
    }
  }
  const pixels = new Uint8Array(3 * height * width);
  const line = new Float64Array(3 * width);
  rows.forEach(({ low, high, weights }, y) => {
    line.fill(UNIT / 2);
    for (let row = low; row < high; row += 1) {
      const weight = weights[row - low];
      const from = (row - first) * 3 * width;
      for (let place = 0; place < line.length; place += 1) line[place] += weight * across[from + place];
    }
    line.forEach((sum, place) => { pixels[y * 3 * width + place] = byte(sum); });
  });
  return pixels;
}

function byte(sum) {
  return Math.min(Math.max(Math.floor(sum / UNIT), 0), 255);
}

// For each output: its first pixel, the one after its last, and their weights, whole numbers.
function taps(size, resizedTo, start, length, interpolation) {
  const scale = size / resizedTo;
  const stretch = Math.max(scale, 1);
  const support = SUPPORT[interpolation] * stretch;
  return Array.from({ length }, (_, place) => {
    const centre = (start + place + 0.5) * scale;
    const low = Math.trunc(Math.max(centre - support + 0.5, 0));
    const high = Math.trunc(Math.min(centre + support + 0.5, size));
    const shares = Array.from({ length: high - low }, (_, tap) =>
      filter((low + tap - centre + 0.5) / stretch, interpolation));
    const sum = shares.reduce((total, share) => total + share, 0);
    const weights = shares.map((share) => Math.trunc((share / sum) * UNIT + (share < 0 ? -0.5 : 0.5)));
    return { low, high, weights };
  });
}

function filter(distance, interpolation) {
  const x = Math.abs(distance);
  if (interpolation === "bilinear") return Math.max(1 - x, 0);
  if (interpolation === "lanczos") return x < 3 ? sinc(x) * sinc(x / 3) : 0;
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1; // Keys' cubic with a = -1/2
  return x < 2 ? -0.5 * (((x - 5) * x + 8) * x - 4) : 0;
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

// ------------------------------------------------------------------ OpenCV's bilinear
//
// Weights of 11 bits; the horizontal sum keeps 15, each vertical product loses 16 more, two remain to round.

function openCvBilinear(picture, size, top, left, record) {
  const [height, width] = record.input_size;
  const columns = Array.from({ length: width }, (_, x) => column(picture.width, size[1], left + x));
  const pixels = new Uint8Array(3 * height * width);
  for (let y = 0, to = 0; y < height; y += 1) {
    const { place, weight } = between(picture.height, size[0], top + y);
    const upper = 4 * picture.width * clamp(place, picture.height);
    const lower = 4 * picture.width * clamp(place + 1, picture.height);
    const [above, below] = [fixed(Math.fround(1 - weight)), fixed(weight)];
    for (const { near, far, share } of columns) {
      for (let channel = 0; channel < 3; channel += 1) {
        const high = mixed(picture.data[upper + near + channel], picture.data[upper + far + channel], share);
        const low = mixed(picture.data[lower + near + channel], picture.data[lower + far + channel], share);
        pixels[to++] = (((high * above) >> 16) + ((low * below) >> 16) + 2) >> 2;
      }
    }
  }
  return pixels;
}

function mixed(near, far, share) {
  return (near * (2048 - share) + far * share) >> 4;
}

function column(size, resizedTo, x) {
  const { place, weight } = between(size, resizedTo, x);
  const near = clamp(place, size);
  const share = place < 0 || place >= size - 1 ? 0 : fixed(weight);
  return { near: 4 * near, far: 4 * clamp(near + 1, size), share };
}

// The pixel at or before an output's centre, and how far beyond it the centre lies, in float32.
function between(size, resizedTo, place) {
  const centre = Math.fround((place + 0.5) * (size / resizedTo) - 0.5);
  const floor = Math.floor(centre);
  return { place: floor, weight: Math.fround(centre - floor) };
}

function clamp(place, size) {
  return Math.min(Math.max(place, 0), size - 1);
}

function fixed(weight) {
  return halfToEven(weight * 2048);
}

// At exactly one half OpenCV takes the mean of four.
function halved(picture, top, left, height, width) {
  const pixels = new Uint8Array(3 * height * width);
  const line = 4 * picture.width;
  for (let y = 0, to = 0; y < height; y += 1) {
    for (let x = 0, from = line * 2 * (top + y) + 8 * left; x < width; x += 1, from += 8) {
      for (let channel = 0; channel < 3; channel += 1) {
        const at = from + channel;
        const sum = picture.data[at] + picture.data[at + 4] + picture.data[at + line] + picture.data[at + line + 4];
        pixels[to++] = (sum + 2) >> 2;
      }
    }
  }
  return pixels;
}
