// The times of a device in a link: backend, threads, date, browser, the runtime's version, then five parts a network (its
// name, the median and the ends of its interval in microseconds, the grade), with a * between all of them. Whoever opens
// the link sees the estimates for that device.

const CARRIED = "times";
const MICRO = 1e6;
const [HEAD, EACH] = [5, 5];

function timesInLink(hash) {
  const parts = new URLSearchParams(hash.startsWith("#explorer?") ? hash.slice("#explorer?".length) : "");
  return parts.get(CARRIED);
}

function written({ backend, threads, date, browser, version, times }) {
  const each = [...times].map(([name, { value, low, high, grade }]) => [name,
    ...[value, low, high].map((seconds) => Number((seconds * MICRO).toPrecision(6))), grade].join("*"));
  return [backend, threads, date, browser.replaceAll("*", " "), version, ...each].join("*");
}

/** What a link says, or an Error with the reason why it can't be read. */
function readTimes(text, prior) {
  const parts = text.split("*");
  const [backend, threads, date, browser, version] = parts;
  const each = Array.from({ length: Math.ceil((parts.length - HEAD) / EACH) }, (_, place) => parts.slice(HEAD + EACH * place, HEAD + EACH * (place + 1)));
  const broken = (why) => new Error(`The times in this link can't be read: ${why}. Measure this device instead.`);
  if (!Object.hasOwn(BACKENDS, backend)) throw broken("they are of no engine that this page has");
  if (!/^[1-9][0-9]{0,3}$/.test(threads ?? "")) throw broken("the number of threads is missing");
  if (!/^[0-9]{4}-[0-9]{2}-[0-9]{2}$/.test(date ?? "")) throw broken("the date is missing");
  const times = new Map(each.map((one) => {
    const [name, ...rest] = one;
    const [value, low, high] = rest.slice(0, 3).map((number) => Number(number) / MICRO);
    const [, , , grade] = rest;
    if (!prior.index.has(name)) throw broken(`this page doesn't know the network ${name.slice(0, 60)}`);
    if (!(low > 0 && low <= value && value <= high && high < 1e4) || !/^[BC]$/.test(grade ?? "")) {
      throw broken(`${name} has no time with an interval`);
    }
    return [name, { value, low, high, grade, reason: "as the link says" }];
  }));
  if (times.size !== each.length || times.size < prior.constants.fewest) throw broken(`${times.size} networks are too few`);
  return { backend, threads: Number(threads), date, browser: browser.slice(0, 60), version: version.slice(0, 20), times };
}
