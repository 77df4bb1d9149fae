// Makes elements. Text is always text, never markup: plugin names and errors are foreign.

export const $ = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "line", "path", "text", "title", "g"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const number = (value, digits = 0) =>
  value === null || value === undefined ? "–" : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** Milliseconds, from one second on as seconds. */
export const ms = (value) => {
  if (value === null || value === undefined) return "–";
  return value >= 1000 ? `${number(value / 1000, value < 10000 ? 1 : 0)} s` : `${number(value, value < 10 ? 1 : 0)} ms`;
};

/** Have the browser save a text as a file. */
export function save(name, type, text) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

export const clock = (at) => new Date(at * 1000).toLocaleTimeString("en-GB");

/** Show a line at the edge of the page; an error stays until it is closed. */
export function note(text, failed = false) {
  const line = make("div", { class: failed ? "failed" : "" });
  line.append(make("button", { type: "button", onclick: () => line.remove() }, "Close"), text);
  $("notes").append(line);
  while ($("notes").children.length > 4) $("notes").firstChild.remove();
  if (!failed) setTimeout(() => line.remove(), 6000);
}
