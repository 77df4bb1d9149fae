// The jobs of the plugins, and a button to run one now.

import * as api from "./api.js";
import { $, clock, make, note, number } from "./dom.js";
import { withToken } from "./dialogs.js";

export async function refresh() {
  const { jobs } = await api.get("/v1/jobs");
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
  try {
    if (await withToken(() => api.post(`/v1/jobs/${encodeURIComponent(job)}/run`))) note(`${job} is queued`);
  } catch (error) {
    note(error.message, true);
  }
  await refresh().catch(() => {});
}
