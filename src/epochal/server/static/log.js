// The event log: newest first, filtered by level and text.

import { $, clock, make } from "./dom.js";

const MOST = 500;
const GRAVITY = { debug: 0, info: 1, warning: 2, error: 3 };
const events = [];

export function add(event) {
  events.push(event);
  if (events.length > 4 * MOST) events.splice(0, events.length - 2 * MOST);
  if (!passes(event)) return;
  $("events").prepend(line(event));
  while ($("events").children.length > MOST) $("events").lastChild.remove();
}

export function clear() {
  events.length = 0;
  $("events").replaceChildren();
}

function passes(event) {
  const text = $("filter").value.trim().toLowerCase();
  return GRAVITY[event.level] >= GRAVITY[$("level").value] && event.text.toLowerCase().includes(text);
}

const line = (event) => make("li", { class: event.level }, make("time", {}, clock(event.at)), make("span", {}, event.text));

function filter() {
  $("events").replaceChildren(...events.filter(passes).slice(-MOST).reverse().map(line));
}

$("level").addEventListener("change", filter);
$("filter").addEventListener("input", filter);
