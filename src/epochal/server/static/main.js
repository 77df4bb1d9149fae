// The live page: one stream of events and samples drives it; the rest is requested when it changes.

import * as api from "./api.js";
import { $, ms, note, number } from "./dom.js";
import { askToken, showSession } from "./dialogs.js";
import * as history_ from "./history.js";
import * as jobs from "./jobs.js";
import * as log from "./log.js";
import * as plot from "./plot.js";
import * as plugins from "./plugins.js";
import * as query from "./query.js";

let boot = null;
let stream = null;
let changes = 0;
let stale = false;
let seen = 0;

function showLink(on, text) {
  $("link-light").className = on ? "on" : "";
  $("link-text").textContent = text;
}

/** Load everything: at the start, and after a restart of the service. */
async function begin() {
  const { samples } = await api.get("/v1/status");
  plot.setSamples(samples);
  await refresh();
  showSession(await api.mayChange());
}

let tools = null;

const refresh = () => Promise.all([plugins.refresh().then(showTools), query.refresh(), jobs.refresh(), history_.refresh()]);

/** Only where there are tools: the first request has the service load its library for MCP. */
async function showTools(active) {
  if (active.some(({ exports }) => exports.some((one) => one.kind === "agent.tool"))) tools ??= await import("./tools.js");
  await tools?.refresh(active);
}

function follow() {
  stream = new EventSource("v1/events");
  stream.addEventListener("hello", async (message) => {
    const hello = JSON.parse(message.data);
    if (hello.boot !== boot) {
      log.clear();
      plot.clear();
      changes = 0;
    }
    boot = hello.boot;
    try {
      await begin();
      showLink(true, "live");
    } catch (error) {
      if (error.status === 401 && (await askToken())) return reconnect(0);
      showLink(false, error.message);
    }
  });
  stream.addEventListener("message", (message) => showEvent(JSON.parse(message.data)));
  stream.addEventListener("sample", (message) => showSample(JSON.parse(message.data)));
  stream.addEventListener("missed", (message) => note(`${JSON.parse(message.data).count} events were missed`));
  stream.onerror = () => {
    showLink(false, "reconnecting");
    // The browser reconnects by itself, except after an answer such as 503.
    if (stream.readyState === EventSource.CLOSED) reconnect(1000);
  };
}

function reconnect(after) {
  stream.close();
  setTimeout(async () => {
    const status = await api.get("/v1/status").then(() => 200, (error) => error.status ?? 0);
    if (status === 401 && !(await askToken())) return showLink(false, "sign in to see it");
    follow();
  }, after);
}

function showEvent(event) {
  log.add(event);
  if (event.type === "change-committed") {
    changes += 1;
    plot.addMark({ at: event.at, name: event.plugins.join(", "), text: event.text, refused: false });
  }
  if ((event.type === "change-failed" && event.level === "error") || event.type === "source-refused") plot.addMark({ at: event.at, name: "", text: event.text, refused: true });
  if (event.type === "source-refused") plugins.markRefused(event);
  if (event.type === "change-committed") plugins.clearRefused(event.plugins);
  if (event.type === "source-refused" && event.at > Date.now() / 1000 - 10) note(event.text, true);
  if (event.type === "change-committed") stale = true;
}

function showSample(sample) {
  plot.addSample(sample);
  $("f-qps").textContent = number(sample.qps);
  $("f-p50").textContent = ms(sample.p50_ms);
  $("f-p99").textContent = ms(sample.p99_ms);
  $("f-running").textContent = number(sample.running);
  $("f-errors").textContent = number(sample.errors);
  $("f-changes").textContent = number(changes);
  plugins.showEpoch(sample.epoch);
  plugins.showRates(sample.plugins);
  plugins.showDrains(sample.drains);
  if (stale) {
    // At most once a sample, for any number of changes.
    stale = false;
    refresh().catch(() => { stale = true; });
  }
  // Jobs run and streams move without a change.
  seen += 1;
  if (seen % 4 === 0 && jobs.isShown() && !document.hidden) jobs.refresh().catch(() => {});
  plot.draw();
}

/** A link with the token, as the service prints it: taken out of the address at once. */
async function signInByLink() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  history.replaceState(null, "", location.pathname);
  await api.signIn(token).catch(() => note("The link's token is not the admin token of this service.", true));
}

new ResizeObserver(() => plot.draw()).observe($("plot"));
$("range").addEventListener("change", () => plot.setSpan(Number($("range").value)));
await signInByLink();
query.readAddress();
follow();
