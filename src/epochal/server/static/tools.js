// The plugins' tools: their schemas, and a form to call each, as any client of MCP calls it.

import { $, make, ms, number } from "./dom.js";
import { attempt, confirm } from "./dialogs.js";
import { ask } from "./mcp.js";
import { makeForm } from "./tool_form.js";

const FEW = 25;
const MOST = 100_000;
const cards = new Map();

export async function refresh(plugins) {
  $("tools-section").hidden = false;
  const { tools } = await ask("tools/list").catch(missing);
  for (const tool of tools) {
    const code = plugins.find(({ plugin }) => plugin === tool.name.split(".")[0]);
    if (cards.has(tool.name)) cards.get(tool.name).change(tool, code);
    else insert(new Card(tool, code));
  }
  for (const [name, card] of cards) if (!tools.some((tool) => tool.name === name)) card.remove();
  filter();
}

function missing(error) {
  if (error.status !== 501) throw error;
  $("tools-hint").textContent = error.message;
  return { tools: [] };
}

function insert(card) {
  const { name } = card.tool;
  cards.set(name, card);
  // The others stay in their place: an element that is moved loses the focus.
  $("tools").insertBefore(card.details, [...$("tools").children].find((one) => one.dataset.tool > name) ?? null);
}

function filter() {
  const wanted = $("tool-filter").value.trim().toLowerCase();
  let left = FEW;
  for (const details of $("tools").children) {
    const { tool } = cards.get(details.dataset.tool);
    details.hidden = !`${tool.name} ${tool.title} ${tool.description}`.toLowerCase().includes(wanted) || (left-- <= 0 && !details.open);
  }
  $("tool-count").textContent = cards.size > FEW ? `${number(cards.size)}, at most ${FEW} shown` : "";
  $("tool-filter").parentElement.hidden = cards.size <= FEW && !wanted;
}

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const codeOf = (code) => `${code.plugin} ${code.version}, generation ${code.generation} (${code.digest.slice(0, 8)})`;
const shown = (label, value = "") => make("pre", { tabindex: 0, role: "region", "aria-label": label }, value && JSON.stringify(value, null, 1));

/** One tool: folded to its name until it is opened. */
class Card {
  constructor(tool, code) {
    const { name } = tool;
    Object.assign(this, { tool, code, form: null, isGone: false, stopper: null });
    this.button = make("button", { type: "submit", "aria-label": `Call ${name}` });
    this.stop = make("button", { type: "button", onclick: () => this.stopper?.abort() }, "Stop");
    this.status = make("span", { role: "status" });
    this.fields = make("div");
    const form = make("form", {}, this.fields, make("p", { class: "row" }, this.button, this.stop, this.status));
    form.addEventListener("submit", (event) => { event.preventDefault(); this.call(); });
    this.news = make("p", { class: "news", role: "status" });
    this.answer = shown(`Result of ${name}`);
    this.answer.hidden = true;
    this.summary = make("summary");
    this.details = make("details", { "data-tool": name }, this.summary, this.news, form, this.answer);
    this.details.addEventListener("toggle", () => { if (this.details.open && !this.form) this.fill(); });
    this.fold();
  }

  fold() {
    const { name, title, description, annotations: { destructiveHint, readOnlyHint } = {} } = this.tool;
    const mark = destructiveHint ? "destructive" : readOnlyHint ? "read only" : "";
    this.summary.replaceChildren(make("strong", {}, name), mark && make("span", { class: "state" }, mark), make("span", { class: "hint" }, ` ${title ?? description.split("\n")[0]}`));
    this.button.textContent = destructiveHint ? "Call …" : "Call";
    this.button.disabled = this.isGone || this.stopper !== null;
    this.stop.hidden = this.stopper === null;
  }

  fill() {
    const { name, description, inputSchema, outputSchema } = this.tool;
    this.form = makeForm(inputSchema, this.form?.values());
    const schemas = make("details", { class: "hint" }, make("summary", {}, "Schemas"), shown(`Arguments of ${name}`, inputSchema), outputSchema && shown(`Result of ${name}, schema`, outputSchema));
    this.fields.replaceChildren(make("p", { class: "about" }, description), schemas, this.form.element);
  }

  /** After a change the form shows what is another now, and keeps what was entered. */
  change(tool, code) {
    const { tool: old, code: from, isGone } = this;
    const isSame = same(old, tool);
    if (isSame && from.generation === code.generation && !isGone) return;
    Object.assign(this, { tool, code, isGone: false });
    this.fold();
    if (!this.form) return;
    this.news.textContent = `${code.plugin} was reloaded, ${from.version} → ${code.version}: ${isSame ? "the tool's schemas are the same" : differences(old, tool)}.`;
    if (!isSame) this.fill();
  }

  remove() {
    if (!this.details.open) {
      this.details.remove();
      cards.delete(this.tool.name);
    }
    this.isGone = true;
    this.news.textContent = "The tool is gone.";
    this.fold();
  }

  async call() {
    if (this.button.disabled) return;
    const { name, annotations } = this.tool;
    try {
      const text = this.form.read();
      if (annotations?.destructiveHint && !(await confirm({ title: `Call ${name}?`, text: "It may delete or overwrite something.", yes: "Call", danger: true }))) return;
      this.stopper = new AbortController();
      const [{ signal }, started] = [this.stopper, performance.now()];
      this.fold();
      this.say("running …");
      const heard = ({ progress, total, message, data }) => this.say([message ?? data ?? progress, total && `${progress} of ${total}`].filter(Boolean).join(" · "));
      const result = await attempt(() => ask("tools/call", { name, text, heard, signal }).catch((error) => { if (!signal.aborted) throw error; }));
      if (result) this.show(result, performance.now() - started);
      else this.say(signal.aborted ? "stopped" : "not called", true);
    } catch (error) {
      this.say(error.message, true);
    } finally {
      this.stopper = null;
      this.fold();
    }
  }

  show({ content, isError, _meta: { epochal: { epoch, ...code } } }, took) {
    const by = code.plugin ? `${isError ? "failed in" : "answered by"} ${codeOf(code)}` : "refused";
    const text = content.map((block) => (block.type === "text" ? readable(block.text) : JSON.stringify(block))).join("\n") || "no result";
    this.say(`${by}, epoch ${epoch}, in ${ms(took)}`, isError);
    this.answer.hidden = false;
    this.answer.textContent = text.length > MOST ? `${text.slice(0, MOST)}\n… ${number(text.length)} characters` : text;
  }

  say(text, isError = false) {
    this.status.textContent = text;
    this.status.className = isError ? "error" : "hint";
  }
}

/** JSON over several lines, unless that would round a number. */
function readable(text) {
  const bare = (one) => one.replace(/\s/g, "");
  try {
    const lines = JSON.stringify(JSON.parse(text), null, 1);
    return bare(lines) === bare(text) ? lines : text;
  } catch {
    return text;
  }
}

function differences(old, now) {
  const [before, after] = [old.inputSchema.properties ?? {}, now.inputSchema.properties ?? {}];
  const names = Object.keys({ ...before, ...after }).filter((name) => !same(before[name], after[name]));
  const words = names.map((name) => `${name} is ${name in before ? (name in after ? "another" : "gone") : "new"}`);
  return words.join(", ") || "its description, hints or schemas are others";
}

$("tool-filter").addEventListener("input", filter);
$("tools-hint").textContent = `Clients of MCP find them at ${new URL("mcp", location.href).href}`;
