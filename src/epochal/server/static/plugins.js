// The table of plugins, the drains, and the buttons for changes.

import * as api from "./api.js";
import { $, make, note, number } from "./dom.js";
import { confirm, attempt } from "./dialogs.js";

let shown = { epoch: { number: 0, id: "" }, plugins: [] };
let rates = {};
let order = { by: "plugin", down: false };
let all = false;
const FEW = 25;
const refused = new Map();

/** A save was refused: its plugin's row says so until a version of it is published. */
export function markRefused(event) {
  if (!event.plugin) return;
  refused.set(event.plugin, event.error);
  render();
}

export function clearRefused(plugins) {
  for (const plugin of plugins) refused.delete(plugin);
}

export async function refresh() {
  shown = await api.get("/v1/plugins");
  showEpoch(shown.epoch);
  render();
  return shown.plugins;
}

export function showEpoch(epoch) {
  $("epoch-number").textContent = epoch.number;
  $("epoch-id").textContent = epoch.id.slice(0, 12);
  $("epoch-id").title = `the epoch's id: ${epoch.id}`;
}

export function showRates(plugins) {
  rates = plugins;
  for (const row of $("plugins").tBodies[0].rows) {
    const rate = rates[row.dataset.plugin];
    row.querySelector(".qps").textContent = number(rate?.qps ?? 0, 1);
    row.querySelector(".flight").textContent = number(rate?.in_flight ?? 0);
    row.querySelector(".errors").textContent = number(rate?.errors ?? 0);
  }
}

export function showDrains(drains) {
  $("drains-section").hidden = !drains.length;
  $("drains").replaceChildren(...drains.map((drain) => make("li", {},
    make("strong", {}, `${drain.plugin} ${drain.version}`),
    ` generation ${drain.generation}${drain.seconds === null ? "" : `, for ${number(drain.seconds, 1)} s`}`,
    make("ul", {}, ...(drain.holders.length ? drain.holders : ["no known holder"]).map((holder) => make("li", {}, holder))),
    make("button", { type: "button", "data-action": `Cancel ${drain.plugin} ${drain.generation}`, "aria-label": `Ask the holders of ${drain.plugin} generation ${drain.generation} to stop`, onclick: () => cancel(drain) }, "Ask holders to stop"))));
}

async function cancel(drain) {
  const answer = await attempt(() => api.post(`/v1/drains/${drain.plugin}/${drain.generation}/cancel`));
  if (answer) note(answer.asked.length ? `asked to stop: ${answer.asked.join("; ")}` : "no holder can be asked");
}

function render() {
  const focused = document.activeElement?.dataset?.action;
  const found = shown.plugins.filter(passes).sort(compare);
  const some = all ? found : found.slice(0, FEW);
  const many = shown.plugins.length > FEW;
  $("plugin-count").textContent = many ? number(shown.plugins.length) : "";
  document.querySelector("label.many").hidden = !many && !$("plugin-filter").value;
  $("plugins-all").hidden = found.length <= FEW;
  $("plugins-all").textContent = all ? `Show ${FEW}` : `Show all ${found.length}`;
  const rows = some.map((plugin) => make("tr", { "data-plugin": plugin.plugin },
    make("td", {}, make("strong", {}, plugin.plugin), plugin.description ? make("div", { class: "about" }, plugin.description) : null,
      refused.has(plugin.plugin) ? make("div", { class: "about error" }, `the last save was refused: ${refused.get(plugin.plugin)}`) : null),
    make("td", { "data-name": "version" }, plugin.version, " ", make("code", { title: plugin.digest }, plugin.digest.slice(0, 8))),
    make("td", { class: "n", "data-name": "generation" }, String(plugin.generation)),
    make("td", {}, make("span", { class: "state" }, plugin.state.toLowerCase())),
    make("td", { class: "n qps", "data-name": "calls/s" }),
    make("td", { class: "n flight", "data-name": "in flight" }),
    make("td", { class: "n errors", "data-name": "errors" }),
    make("td", { class: "actions" }, button("Reload", plugin, reload), " ", button("Roll back", plugin, rollBack), " ", button("Remove", plugin, remove))));
  $("plugins").tBodies[0].replaceChildren(...rows);
  $("plugins").hidden = !shown.plugins.length;
  $("no-plugins").hidden = shown.plugins.length > 0;
  $("first-steps").textContent = `epochal new geo\nepochal load geo.py --server ${location.origin}${location.pathname.replace(/\/$/, "")}`;
  for (const head of $("plugins").tHead.rows[0].cells) {
    if (head.dataset.sort === order.by) head.setAttribute("aria-sort", order.down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  showRates(rates);
  if (focused) document.querySelector(`[data-action="${focused}"]`)?.focus();
}

const passes = (plugin) => `${plugin.plugin} ${plugin.version} ${plugin.description}`.toLowerCase().includes($("plugin-filter").value.trim().toLowerCase());
const key = (plugin) => plugin[order.by] ?? rates[plugin.plugin]?.[order.by] ?? 0;

function compare(a, b) {
  // A refused save comes first: it waits for somebody.
  const waiting = refused.has(b.plugin) - refused.has(a.plugin);
  const [x, y] = [key(a), key(b)];
  const less = typeof x === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
  return waiting || (order.down ? -less : less) || a.plugin.localeCompare(b.plugin, "en");
}

for (const head of document.querySelectorAll("#plugins th[data-sort]")) {
  const by = head.dataset.sort;
  head.replaceChildren(make("button", { type: "button", onclick: () => {
    order = { by, down: order.by === by ? !order.down : ["qps", "in_flight", "errors"].includes(by) };
    render();
  } }, head.textContent));
}
$("plugin-filter").addEventListener("input", render);
$("plugins-all").addEventListener("click", () => { all = !all; render(); });
$("load").addEventListener("click", () => load().catch((error) => note(error.message, true)));

/** A field for a configuration, and what is in it; undefined to keep the one that is there. */
function configField() {
  const area = make("textarea", { id: "config", rows: 3, spellcheck: "false", placeholder: '{"key": "value"}' });
  const read = () => {
    if (!area.value.trim()) return undefined;
    const config = JSON.parse(area.value);
    if (config === null || typeof config !== "object" || Array.isArray(config)) throw new Error("The configuration must be a JSON object.");
    return config;
  };
  return [make("label", {}, "Configuration, as JSON; empty keeps the present one", area), read];
}

async function load() {
  const [label, config] = configField();
  const file = make("input", { type: "file", accept: ".py,.zip,.gz,.whl", required: true });
  const name = make("input", { type: "text", required: true, pattern: "[a-z][a-z0-9_]*", autocomplete: "off" });
  file.addEventListener("change", () => { name.value ||= (file.files[0]?.name ?? "").replace(/[-.].*$/, ""); });
  const more = make("div", { class: "fields" }, make("label", {}, "A .py file, an archive of a package, or a wheel", file), make("label", {}, "Its plugin's id", name), label);
  const sure = await confirm({ title: "Load a plugin", text: "Its code runs on the server. An active plugin of that id is replaced.", yes: "Load", more });
  if (sure) await run(`${name.value} loaded`, async () => api.change("PUT", `/v1/plugins/${name.value}`, shown.epoch.id, { file: await file.files[0].arrayBuffer(), config: config() }));
}

function button(text, plugin, act) {
  return make("button", {
    type: "button", "data-action": `${text} ${plugin.plugin}`, "aria-label": `${text} ${plugin.plugin}`,
    onclick: () => act(plugin, shown.epoch.id).catch((error) => note(error.message, true)),
  }, text);
}

async function reload(plugin, epoch) {
  const from = plugin.source ?? "the bytes that were uploaded";
  const [more, config] = configField();
  const sure = await confirm({ title: `Reload ${plugin.plugin}?`, text: `Reads it again from ${from}. Queries under way end on the old code.`, yes: "Reload", more });
  if (sure) await run(`${plugin.plugin} reloaded`, async () => api.change("POST", `/v1/plugins/${plugin.plugin}/reload`, epoch, { config: config() }));
}

async function remove(plugin, epoch) {
  const others = plugin.required_by;
  const cascade = others.length ? make("label", {}, make("input", { type: "checkbox", id: "cascade" }), ` and its dependents: ${others.join(", ")}`) : null;
  const sure = await confirm({ title: `Remove ${plugin.plugin}?`, text: "New queries will not find its functions. Queries under way end on it.", yes: "Remove", more: cascade, danger: true });
  if (!sure) return;
  const option = $("cascade")?.checked ? "?cascade=true" : "";
  await run(`${plugin.plugin} removed`, () => api.change("DELETE", `/v1/plugins/${plugin.plugin}${option}`, epoch));
}

async function rollBack(plugin, epoch) {
  const { kept, epochs } = await api.get("/v1/epochs?limit=200");
  if (!kept) throw new Error("There is no history to go back to: the service was started without --store.");
  const earlier = new Map();
  for (const record of epochs) {
    const one = record.plugins.find((other) => other.plugin === plugin.plugin);
    if (one && one.generation !== plugin.generation && !earlier.has(one.generation)) earlier.set(one.generation, one);
  }
  if (!earlier.size) throw new Error(`The history has no other generation of ${plugin.plugin}.`);
  const choice = make("select", { id: "rollback-to", "aria-label": "Generation" }, ...[...earlier.values()].map((one) =>
    make("option", { value: one.generation }, `generation ${one.generation}: version ${one.version} (${one.digest.slice(0, 8)})`)));
  const sure = await confirm({ title: `Roll back ${plugin.plugin}?`, text: `Now: generation ${plugin.generation}, version ${plugin.version}. Bring back:`, yes: "Roll back", more: choice });
  if (sure) await run(`${plugin.plugin} rolled back`, () => api.change("POST", `/v1/plugins/${plugin.plugin}/rollback`, epoch, { body: { to: Number(choice.value) } }));
}

async function run(done, ask) {
  const report = await attempt(ask);
  const still = report?.drained ? "the old code is shut down" : "the old code is still in use";
  if (report) note(`${done}: epoch ${report.epoch_after}, ${number(report.cutover_ms, 1)} ms; ${still}`);
  await refresh().catch(() => {});
}
