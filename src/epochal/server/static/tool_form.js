// The fields for a tool's arguments, made from their JSON Schema. A field's value becomes JSON text.

import { make } from "./dom.js";

const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?(e[+-]?\d+)?$/i;

/** The fields, their text as a JSON object, and their values, which a later form takes over. */
export function makeForm(schema, values = {}) {
  const fields = Object.entries(schema.properties ?? {}).map(([name, one]) => makeField(name, plain(one, schema), (schema.required ?? []).includes(name), values[name] ?? ""));
  return {
    element: make("div", { class: "fields" }, ...fields.map((field) => field.label)),
    read: () => `{${fields.map(({ name, text }) => [JSON.stringify(name), text()]).filter(([, one]) => one !== "").map((pair) => pair.join(": ")).join(", ")}}`,
    values: () => Object.fromEntries(fields.map(({ name, input }) => [name, input.value])),
  };
}

/** A schema without its reference, and without the null of an argument that may be left out. */
function plain({ $ref, anyOf, ...rest }, root, depth = 0) {
  const some = $ref ? [$ref.slice(2).split("/").reduce((at, key) => at?.[key], root) ?? {}] : (anyOf ?? []).filter((one) => one.type !== "null");
  return some.length === 1 && depth < 9 ? plain({ ...some[0], ...rest }, root, depth + 1) : rest;
}

function makeField(name, schema, required, value) {
  const { type, description } = schema;
  const members = schema.enum ?? ("const" in schema ? [schema.const] : type === "boolean" ? [true, false] : null);
  const [isText, isNumber] = [type === "string" && !members, type === "integer" || type === "number"];
  const facts = [isText || isNumber || members ? type : `${type ?? "any"}, as JSON`, required ? "" : "default" in schema ? `default ${JSON.stringify(schema.default)}` : "optional"];
  const given = { required: required && (!isText || schema.minLength > 0), spellcheck: "false", autocomplete: "off" };
  const input = members ? make("select", given, make("option", { value: "" }, "–"), ...members.map((one) => make("option", { value: JSON.stringify(one) }, String(one))))
    : isNumber ? make("input", { inputmode: "decimal", ...given }) : make("textarea", { rows: isText ? 1 : 3, ...given });
  input.value = value;
  const text = () => {
    const entered = isText ? input.value : input.value.trim();
    if (!entered && !(isText && required)) return "";
    // What is no number goes as text: the service says what it expects, and of which argument.
    if (isText || (isNumber && !members && !NUMBER.test(entered))) return JSON.stringify(entered);
    try {
      JSON.parse(entered);
    } catch (error) {
      throw new Error(`${name} is not valid JSON: ${error.message}`);
    }
    return entered;
  };
  const about = ` ${facts.filter(Boolean).join(", ")}${description ? ` · ${description}` : ""}`;
  return { name, input, text, label: make("label", {}, make("strong", {}, name), make("span", { class: "hint" }, about), input) };
}
