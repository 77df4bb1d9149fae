// Work in the background: the jobs of the plugins, with a button to run one now, and the streams.

import * as api from "./api.js";
import { $, clock, make, note, number } from "./dom.js";
import { attempt } from "./dialogs.js";

export const isShown = () => !$("jobs-section").hidden || !$("streams-section").hidden;

export const refresh = () => Promise.all([showJobs(), showStreams()]);

async function showStreams() {
  const { streams } = await api.get("/v1/streams");
  $("streams-section").hidden = !streams.length;
  $("streams").tBodies[0].replaceChildren(...streams.map((flow) => make("tr", {},
    make("td", {}, make("strong", {}, `${flow.source} → ${flow.sink}`), flow.last_error ? make("div", { class: "about error" }, flow.last_error) : null),
    make("td", {}, flow.waiting ? `waits: ${flow.waiting}` : flow.circuit === "closed" ? "moves" : `held back, circuit ${flow.circuit}`),
    make("td", {}, make("code", {}, flow.position ?? "–")),
    make("td", { class: "n" }, number(flow.events)))));
}

async function showJobs() {
  const { jobs } = await api.get("/v1/jobs");
  if ($("jobs").contains(document.activeElement)) return; // a row that is replaced loses the focus
  $("jobs-section").hidden = !jobs.length;
  $("jobs").tBodies[0].replaceChildren(...jobs.map((job) => make("tr", {},
    make("td", {}, make("strong", {}, job.job), job.last_error ? make("div", { class: "about error" }, job.last_error) : null),
    make("td", {}, job.schedule),
    make("td", {}, job.next_at === null ? "–" : clock(job.next_at)),
    make("td", {}, state(job)),
    make("td", { class: "n" }, number(job.ticks)),
    make("td", { class: "n" }, number(job.failures)),
    make("td", { class: "actions" }, make("button", { type: "button", "aria-label": `Run ${job.job}`, onclick: () => run(job.job) }, "Run")))));
}

function state(job) {
  if (job.running) return "runs";
  if (job.queued) return "waits for a worker";
  return job.circuit === "closed" ? "waits" : `held back, circuit ${job.circuit}`;
}

async function run(job) {
  if (await attempt(() => api.post(`/v1/jobs/${encodeURIComponent(job)}/run`))) note(`${job} is queued`);
  await refresh().catch(() => {});
}
