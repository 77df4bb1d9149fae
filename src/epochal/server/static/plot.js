// Latency over the last two minutes, and on the same time line each change of plugins.

import { $, make, ms, number } from "./dom.js";

const MOST_S = 3600;
const POINTS = 600;
let span = 120;
const HEIGHT = 220;
const [TOP, RIGHT, BOTTOM, LEFT] = [18, 10, 22, 52];

const samples = [];
const marks = [];

export function addSample(sample) {
  if (samples.length && sample.at <= samples.at(-1).at) return;
  samples.push(sample);
  while (samples[0].at < sample.at - MOST_S) samples.shift();
}

/** Show so many seconds. */
export function setSpan(seconds) {
  span = seconds;
  draw();
}

/** Add the samples that the service has: of the last two minutes. */
export function setSamples(all) {
  all.forEach(addSample);
}

export function addMark(mark) {
  marks.push(mark);
  if (marks.length > 2000) marks.shift();
}

export function clear() {
  samples.length = marks.length = 0;
}

export function draw() {
  const now = samples.at(-1)?.at ?? Date.now() / 1000;
  const width = Math.max($("plot").clientWidth, 280);
  const right = width - RIGHT;
  const x = (at) => right - ((now - at) / span) * (right - LEFT);
  const seen = thinned(samples.filter((sample) => sample.at >= now - span));
  const top = niceTop(Math.max(1, ...seen.map((s) => s.p99_ms ?? 0)));
  const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - TOP - BOTTOM);
  const shown = marks.filter((mark) => mark.at >= now - span && mark.at <= now + 1);
  const latest = samples.at(-1);
  const svg = make("svg", {
    viewBox: `0 0 ${width} ${HEIGHT}`, role: "img",
    "aria-label": `Query latency of the last ${span / 60} minutes: p50 ${ms(latest?.p50_ms)}, p99 ${ms(latest?.p99_ms)}; ${shown.length} changes`,
  });
  for (let step = 0; step <= 4; step++) {
    const value = (top * step) / 4;
    svg.append(make("line", { class: "grid", x1: LEFT, x2: right, y1: y(value), y2: y(value) }));
    svg.append(make("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, ms(value)));
  }
  for (let ago = 0; ago <= span; ago += span / 4) {
    const label = ago ? `−${span > 120 ? `${number(ago / 60, span % 240 ? 0 : 1)} min` : `${ago} s`}` : "now";
    svg.append(make("text", { x: x(now - ago), y: HEIGHT - 6, "text-anchor": ago === span ? "start" : ago ? "middle" : "end" }, label));
  }
  drawMarks(svg, shown, x, right);
  for (const name of ["p50", "p99"]) svg.append(make("path", { class: name, d: line(seen, name, x, y) }));
  $("plot").replaceChildren(svg);
}

function drawMarks(svg, shown, x, right) {
  let free = -Infinity;
  for (const mark of shown) {
    const at = x(mark.at);
    const group = make("g", {}, make("title", {}, mark.text));
    group.append(make("line", { class: mark.refused ? "refused" : "published", x1: at, x2: at, y1: TOP - 4, y2: HEIGHT - BOTTOM }));
    const name = mark.name.length > 24 ? `${mark.name.slice(0, 23)}…` : mark.name;
    const half = name.length * 3.5;
    if (!mark.refused && at - half > free) {
      // Within the picture, at its edges too.
      const middle = Math.min(Math.max(at, LEFT + half), right - half);
      group.append(make("text", { class: "mark-name", x: middle, y: TOP - 7, "text-anchor": "middle" }, name));
      free = middle + half + 8;
    }
    svg.append(group);
  }
}

/** At most so many samples as points fit: of several, the worst. */
function thinned(all) {
  const step = Math.ceil(all.length / POINTS);
  if (step <= 1) return all;
  const worst = (some) => some.reduce((a, b) => ((b.p99_ms ?? -1) > (a.p99_ms ?? -1) ? b : a));
  return Array.from({ length: Math.ceil(all.length / step) }, (_, i) => worst(all.slice(i * step, (i + 1) * step)));
}

/** A path with a gap wherever no query ended. */
function line(seen, name, x, y) {
  let path = "";
  let down = false;
  for (const sample of seen) {
    const value = sample[`${name}_ms`];
    if (value === null) { down = false; continue; }
    path += `${down ? "L" : "M"}${x(sample.at).toFixed(1)} ${y(value).toFixed(1)}`;
    down = true;
  }
  return path || "M0 0";
}

function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 8, 10].find((step) => step * power >= value) * power;
}
