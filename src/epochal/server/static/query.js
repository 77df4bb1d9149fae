// The query box: rows, and the code that computed them.

import * as api from "./api.js";
import { $, make, number, save } from "./dom.js";

export async function refresh() {
  const { tables, functions } = await api.get("/v1/catalog");
  const known = [tables.length ? `tables: ${tables.map((table) => table.name).join(", ")}` : "", functions.length ? `functions: ${functions.join("; ")}` : ""];
  $("catalog-title").textContent = `${number(tables.length)} tables, ${number(functions.length)} functions`;
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

/** Put the query of the address into its field; it is not run before somebody asks for it. */
export function readAddress() {
  const sql = new URLSearchParams(location.hash.slice(1)).get("sql");
  if (sql) $("sql").value = sql;
}

let last = null;

function show(answer) {
  last = answer;
  history.replaceState(null, "", `#sql=${encodeURIComponent($("sql").value.trim())}`);
  const rows = `${number(answer.rows.length)} ${answer.rows.length === 1 ? "row" : "rows"}${answer.truncated ? ", cut off" : ""}`;
  showStatus(`${rows} in ${number(answer.elapsed_ms, 1)} ms, epoch ${answer.epoch.number}`);
  $("rows").tHead.replaceChildren(make("tr", {}, ...answer.columns.map((column) => make("th", { scope: "col", title: column.extension ? `${column.extension.name}: ${column.type}` : column.type }, column.name))));
  $("rows").tBodies[0].replaceChildren(...answer.rows.slice(0, 200).map((row) => make("tr", {}, ...row.map((value, i) => make("td", {}, answer.columns[i].type === "month_day_nano_interval" && value ? interval(value) : text(value))))));
  const by = answer.provenance.map((code) => `${code.plugin} ${code.version}, generation ${code.generation} (${code.digest.slice(0, 8)})`);
  $("provenance").textContent = (by.length ? `computed by ${by.join("; ")}` : "no plugin function was called") + (answer.rows.length > 200 ? " · the first 200 rows are shown" : "");
  $("answer").hidden = false;
}

/** An interval in words; all three parts may be there, with signs of their own. */
const interval = ([months, days, ns]) => [[months, "month"], [days, "day"], [ns / 1e9, "second"]]
  .filter(([count], i, all) => count || (i === 2 && all.every(([one]) => !one))).map(([count, unit]) => `${count} ${unit}${count === 1 ? "" : "s"}`).join(" ");
const text = (value) => (value === null ? "null" : typeof value === "object" ? JSON.stringify(value) : String(value));

function showStatus(text, failed = false) {
  $("query-status").textContent = text;
  $("query-status").className = failed ? "error" : "hint";
}

const quoted = (value) => (value === null ? "" : /[",\n\r]/.test(text(value)) ? `"${text(value).replaceAll('"', '""')}"` : text(value));

$("as-csv").addEventListener("click", () => save("rows.csv", "text/csv",
  [last.columns.map((column) => column.name), ...last.rows].map((row) => `${row.map(quoted).join(",")}\n`).join("")));
$("as-json").addEventListener("click", () => save("rows.json", "application/json",
  JSON.stringify(last.rows.map((row) => Object.fromEntries(last.columns.map((column, i) => [column.name, row[i]]))), null, 1)));
$("query").addEventListener("submit", (event) => { event.preventDefault(); run(); });
$("sql").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); run(); }
});
