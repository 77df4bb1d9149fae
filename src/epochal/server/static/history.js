// The epochs that are kept: when, what changed, by whom and why; and the difference of the sources.

import * as api from "./api.js";
import { $, make, note } from "./dom.js";
import { attempt } from "./dialogs.js";

const MOST = 50;
const NAMED = 12;

export async function refresh() {
  if ($("history").hidden) return;
  const { kept, epochs } = await api.get(`/v1/epochs?limit=${MOST + 1}`);
  const lines = epochs.slice(0, MOST).map((epoch, i) => line(epoch, epochs[i + 1]));
  if (!kept) lines.push(make("li", { class: "hint" }, "No more is kept: the service was started without --store."));
  $("history").replaceChildren(...lines);
}

function line(epoch, before) {
  const at = new Date(epoch.at * 1000);
  return make("li", {},
    make("time", { datetime: at.toISOString() }, at.toLocaleString("sv")),
    make("strong", {}, `epoch ${epoch.number}`), " ",
    ...list(changes(epoch, before)),
    make("span", { class: "hint" }, epoch.reason));
}

function list(all) {
  const parts = all.slice(0, NAMED).flatMap((change, i) => [
    `${i ? ", " : ""}${words(change)}`, change.old && change.now && change.old.digest !== change.now.digest ? button(change) : null,
  ]);
  return [...parts, all.length > NAMED ? `, and ${all.length - NAMED} more ` : " "];
}

function changes(epoch, before) {
  const old = new Map((before?.plugins ?? []).map((one) => [one.plugin, one]));
  const now = new Map(epoch.plugins.map((one) => [one.plugin, one]));
  const names = [...new Set([...old.keys(), ...now.keys()])].sort();
  return names.map((plugin) => ({ plugin, old: old.get(plugin), now: now.get(plugin) }))
    .filter(({ old, now }) => old?.generation !== now?.generation || old?.digest !== now?.digest);
}

function words({ plugin, old, now }) {
  if (!old) return `load ${plugin} ${now.version}`;
  if (!now) return `remove ${plugin} ${old.version}`;
  return `reload ${plugin} ${old.version}${old.version === now.version ? "" : ` → ${now.version}`} `;
}

function button({ plugin, old, now }) {
  const made = make("button", { type: "button", "aria-label": `Diff of ${plugin}, generations ${old.generation} and ${now.generation}`, onclick: () => show() }, "Diff");
  async function show() {
    const shown = made.parentElement.querySelector("pre");
    if (shown) return shown.remove();
    const answer = await attempt(() => api.get(`/v1/plugins/${plugin}/diff?old=${old.generation}&new=${now.generation}`));
    if (answer) made.parentElement.append(make("pre", { tabindex: 0 }, ...answer.diff.split("\n").map(coloured)));
  }
  return made;
}

const coloured = (text) => make("span", { class: text[0] === "+" ? "add" : text[0] === "-" ? "del" : "" }, `${text}\n`);

$("show-history").addEventListener("click", () => {
  const open = $("history").hidden;
  $("history").hidden = !open;
  $("show-history").textContent = open ? "Hide" : "Show";
  $("show-history").setAttribute("aria-expanded", String(open));
  refresh().catch((error) => note(error.message, true));
});
