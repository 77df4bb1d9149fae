// The query box: rows, and the code that computed them.

import * as api from "/page/api.js";
import { $, make, number } from "/page/dom.js";

export async function refresh() {
  const { tables, functions } = await api.get("/v1/catalog");
  const known = [tables.length ? `tables: ${tables.map((table) => table.name).join(", ")}` : "", functions.length ? `functions: ${functions.join("; ")}` : ""];
  $("catalog").textContent = known.filter(Boolean).join(" · ");
}

async function run() {
  const sql = $("sql").value.trim();
  const button = $("query").querySelector("button");
  if (!sql || button.disabled) return;
  showStatus("running …");
  button.disabled = true;
  try {
    show(await api.query(sql));
  } catch (error) {
    $("answer").hidden = true;
    showStatus(error instanceof api.Refused ? error.message : "The service could not be reached.", true);
  } finally {
    button.disabled = false;
  }
}

function show(answer) {
  const rows = `${number(answer.rows.length)} ${answer.rows.length === 1 ? "row" : "rows"}${answer.truncated ? ", cut off" : ""}`;
  showStatus(`${rows} in ${number(answer.elapsed_ms, 1)} ms, epoch ${answer.epoch.number}`);
  $("rows").tHead.replaceChildren(make("tr", {}, ...answer.columns.map((column) => make("th", { scope: "col", title: column.extension ? `${column.extension.name}: ${column.type}` : column.type }, column.name))));
  $("rows").tBodies[0].replaceChildren(...answer.rows.slice(0, 200).map((row) => make("tr", {}, ...row.map((value) => make("td", {}, text(value))))));
  const by = answer.provenance.map((code) => `${code.plugin} ${code.version}, generation ${code.generation} (${code.digest.slice(0, 8)})`);
  $("provenance").textContent = (by.length ? `computed by ${by.join("; ")}` : "no plugin function was called") + (answer.rows.length > 200 ? " · the first 200 rows are shown" : "");
  $("answer").hidden = false;
}

const text = (value) => (value === null ? "null" : typeof value === "object" ? JSON.stringify(value) : String(value));

function showStatus(text, failed = false) {
  $("query-status").textContent = text;
  $("query-status").className = failed ? "error" : "hint";
}

$("query").addEventListener("submit", (event) => { event.preventDefault(); run(); });
$("sql").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); run(); }
});
