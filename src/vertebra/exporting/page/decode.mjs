// An encoded picture to pixels, by the browser's decoder and the record's rules: colour profiles are ignored,
// and so is EXIF's orientation unless the record asks for it. Not every browser has settings for both, so the
// blocks with them are removed from the file before decoding.

const MAX_PIXELS = 2 ** 27;

// {height, width, data: Uint8ClampedArray of RGBA}. Throws Error if it can't be decoded.
export async function decode(file, record) {
  const bytes = stripped(new Uint8Array(await file.arrayBuffer()), record.apply_orientation);
  const bitmap = await createImageBitmap(new Blob([bytes]), {
    colorSpaceConversion: "none",
    premultiplyAlpha: "none",
  }).catch(() => {
    throw new Error("this browser can't decode the file as a picture");
  });
  const { height, width } = bitmap;
  try {
    if (height * width > MAX_PIXELS) throw new Error(`the picture has ${width} × ${height} pixels, which is too many`);
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    if (context === null) throw new Error(`${width} × ${height} pixels are too many for this browser`);
    context.drawImage(bitmap, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    return { height, width, data: isOpaque(data) ? data : texels(bitmap) };
  } finally {
    bitmap.close();
  }
}

function isOpaque(data) {
  for (let place = 3; place < data.length; place += 4) if (data[place] !== 255) return false;
  return true;
}

// A canvas stores colours multiplied by alpha, which loses those of transparent pixels; a texture keeps them.
function texels(bitmap) {
  const { height, width } = bitmap;
  const gl = new OffscreenCanvas(1, 1).getContext("webgl");
  if (gl === null || Math.max(height, width) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) {
    throw new Error("the picture is partly transparent, and this browser hides the colours below; save it without");
  }
  const texture = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
  gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
  const data = new Uint8Array(4 * height * width);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, data);
  const error = gl.getError();
  gl.getExtension("WEBGL_lose_context")?.loseContext();  // a browser holds few of them
  if (error !== gl.NO_ERROR) throw new Error(`the picture's transparent pixels can't be read (WebGL error ${error})`);
  return data;
}

export function stripped(bytes, keepOrientation) {
  const starts = (text, at = 0) => [...text].every((sign, place) => bytes[at + place] === sign.charCodeAt(0));
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return joined(bytes, jpegParts(bytes, starts, keepOrientation));
  if (starts("\x89PNG\r\n")) return joined(bytes, pngParts(bytes, starts, keepOrientation));
  if (starts("RIFF") && starts("WEBP", 8)) return renamed(bytes, starts, keepOrientation);
  return bytes;
}

function joined(bytes, parts) {
  const result = new Uint8Array(parts.reduce((sum, [from, to]) => sum + to - from, 0));
  let place = 0;
  for (const [from, to] of parts) {
    result.set(bytes.subarray(from, to), place);
    place += to - from;
  }
  return result;
}

// The ranges [from, to] of a JPEG that are kept.
function jpegParts(bytes, starts, keepOrientation) {
  const parts = [[0, 2]];
  let place = 2;
  while (place + 4 <= bytes.length && bytes[place] === 0xff) {
    const marker = bytes[place + 1];
    if (marker === 0xff) {
      place += 1;
      continue;
    }
    const next = place + 2 + bytes[place + 2] * 256 + bytes[place + 3];
    if (marker === 0xda || next < place + 4) break;
    const exif = marker === 0xe1 && starts("Exif\0\0", place + 4) && !keepOrientation;
    const profile = marker === 0xe2 && starts("ICC_PROFILE\0", place + 4);
    if (!exif && !profile) parts.push([place, next]);
    place = next;
  }
  parts.push([place, bytes.length]);
  return parts;
}

const PNG_COLOURS = ["iCCP", "gAMA", "cHRM", "sRGB", "cICP"];

function pngParts(bytes, starts, keepOrientation) {
  const parts = [[0, 8]];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let place = 8;
  while (place + 12 <= bytes.length) {
    const next = Math.min(place + 12 + view.getUint32(place), bytes.length);
    const dropped = keepOrientation ? PNG_COLOURS : [...PNG_COLOURS, "eXIf"];
    if (!dropped.some((name) => starts(name, place + 4))) parts.push([place, next]);
    place = next;
  }
  return parts;
}

// WebP's chunks keep their place but lose their names: readers skip unknown ones.
function renamed(bytes, starts, keepOrientation) {
  const result = bytes.slice();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let place = 12; place + 8 <= bytes.length; ) {
    const hidden = starts("ICCP", place) || (starts("EXIF", place) && !keepOrientation);
    if (hidden) result.set([0x78, 0x78, 0x78, 0x78], place);
    const size = view.getUint32(place + 4, true);
    place += 8 + size + (size % 2);
  }
  return result;
}
