// Latency over the last two minutes, and on the same time line each change of plugins.

import { $, make, ms } from "/page/dom.js";

const SPAN_S = 120;
const HEIGHT = 220;
const [TOP, RIGHT, BOTTOM, LEFT] = [18, 10, 22, 52];

const samples = [];
const marks = [];

export function addSample(sample) {
  if (samples.length && sample.at <= samples.at(-1).at) return;
  samples.push(sample);
  while (samples[0].at < sample.at - SPAN_S) samples.shift();
}

/** Replace the samples by those that the service has. */
export function setSamples(all) {
  samples.length = 0;
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
  const x = (at) => right - ((now - at) / SPAN_S) * (right - LEFT);
  const top = niceTop(Math.max(1, ...samples.map((s) => s.p99_ms ?? 0)));
  const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - TOP - BOTTOM);
  const shown = marks.filter((mark) => mark.at >= now - SPAN_S && mark.at <= now + 1);
  const latest = samples.at(-1);
  const svg = make("svg", {
    viewBox: `0 0 ${width} ${HEIGHT}`, role: "img",
    "aria-label": `Query latency of the last two minutes: p50 ${ms(latest?.p50_ms)}, p99 ${ms(latest?.p99_ms)}; ${shown.length} changes`,
  });
  for (let step = 0; step <= 4; step++) {
    const value = (top * step) / 4;
    svg.append(make("line", { class: "grid", x1: LEFT, x2: right, y1: y(value), y2: y(value) }));
    svg.append(make("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, ms(value)));
  }
  for (let ago = 0; ago <= SPAN_S; ago += 30) {
    const label = ago ? `−${ago} s` : "now";
    svg.append(make("text", { x: x(now - ago), y: HEIGHT - 6, "text-anchor": ago === SPAN_S ? "start" : ago ? "middle" : "end" }, label));
  }
  drawMarks(svg, shown, x);
  for (const name of ["p50", "p99"]) svg.append(make("path", { class: name, d: line(name, x, y) }));
  $("plot").replaceChildren(svg);
}

function drawMarks(svg, shown, x) {
  let free = -Infinity;
  for (const mark of shown) {
    const at = x(mark.at);
    const group = make("g", {}, make("title", {}, mark.text));
    group.append(make("line", { class: mark.refused ? "refused" : "published", x1: at, x2: at, y1: TOP - 4, y2: HEIGHT - BOTTOM }));
    if (!mark.refused && at > free) {
      group.append(make("text", { class: "mark-name", x: at, y: TOP - 7, "text-anchor": "middle" }, mark.name));
      free = at + 8 + mark.name.length * 7;
    }
    svg.append(group);
  }
}

/** A path with a gap wherever no query ended. */
function line(name, x, y) {
  let path = "";
  let down = false;
  for (const sample of samples) {
    const value = sample[`${name}_ms`];
    if (value === null) { down = false; continue; }
    path += `${down ? "L" : "M"}${x(sample.at).toFixed(1)} ${y(value).toFixed(1)}`;
    down = true;
  }
  return path || "M0 0";
}

function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 10].find((step) => step * power >= value) * power;
}
