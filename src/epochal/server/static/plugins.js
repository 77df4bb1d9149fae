// The table of plugins, the drains, and the buttons for changes.

import * as api from "/page/api.js";
import { $, make, note, number } from "/page/dom.js";
import { confirm, withToken } from "/page/dialogs.js";

let shown = { epoch: { number: 0, id: "" }, plugins: [] };
let rates = {};

export async function refresh() {
  shown = await api.get("/v1/plugins");
  showEpoch(shown.epoch);
  render();
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
    make("ul", {}, ...(drain.holders.length ? drain.holders : ["no known holder"]).map((holder) => make("li", {}, holder))))));
}

function render() {
  const focused = document.activeElement?.dataset?.action;
  const rows = shown.plugins.map((plugin) => make("tr", { "data-plugin": plugin.plugin },
    make("td", {}, make("strong", {}, plugin.plugin), plugin.description ? make("div", { class: "about" }, plugin.description) : null),
    make("td", { "data-name": "version" }, plugin.version, " ", make("code", { title: plugin.digest }, plugin.digest.slice(0, 8))),
    make("td", { class: "n", "data-name": "generation" }, String(plugin.generation)),
    make("td", {}, make("span", { class: "state" }, plugin.state.toLowerCase())),
    make("td", { class: "n qps", "data-name": "calls/s" }),
    make("td", { class: "n flight", "data-name": "in flight" }),
    make("td", { class: "n errors", "data-name": "errors" }),
    make("td", { class: "actions" }, button("Reload", plugin, reload), " ", button("Roll back", plugin, rollBack), " ", button("Remove", plugin, remove))));
  $("plugins").tBodies[0].replaceChildren(...rows);
  $("plugins").hidden = !rows.length;
  $("no-plugins").hidden = rows.length > 0;
  showRates(rates);
  if (focused) document.querySelector(`[data-action="${focused}"]`)?.focus();
}

function button(text, plugin, act) {
  return make("button", {
    type: "button", "data-action": `${text} ${plugin.plugin}`, "aria-label": `${text} ${plugin.plugin}`,
    onclick: () => act(plugin, shown.epoch.id).catch((error) => note(error.message, true)),
  }, text);
}

async function reload(plugin, epoch) {
  const from = plugin.source ?? "the bytes that were uploaded";
  const sure = await confirm({ title: `Reload ${plugin.plugin}?`, text: `Reads it again from ${from}. Queries under way end on the old code.`, yes: "Reload" });
  if (sure) await run(`${plugin.plugin} reloaded`, () => api.change("POST", `/v1/plugins/${plugin.plugin}/reload`, epoch));
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
  if (sure) await run(`${plugin.plugin} rolled back`, () => api.change("POST", `/v1/plugins/${plugin.plugin}/rollback`, epoch, { to: Number(choice.value) }));
}

async function run(done, ask) {
  try {
    const report = await withToken(ask);
    if (report === null) return;
    const still = report.drained ? "the old code is shut down" : "the old code is still in use";
    note(`${done}: epoch ${report.epoch_after}, ${number(report.cutover_ms, 1)} ms; ${still}`);
  } catch (error) {
    const gone = error instanceof TypeError;
    note(gone ? "The service could not be reached." : error.message, true);
  }
  await refresh().catch(() => {});
}
