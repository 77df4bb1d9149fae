// Requests to `/mcp`, as any client of it sends them: under the same guard, with the page's session.

import { Refused, send } from "./api.js";

const MCP = "2026-07-28"; // the version whose requests need no session
const META = { "io.modelcontextprotocol/protocolVersion": MCP, "io.modelcontextprotocol/clientCapabilities": {}, progressToken: 1 };

/** The result of an MCP request. `text` is the arguments' JSON: numbers keep their digits. `heard` gets what a tool reports. */
export async function ask(method, { name = "", text = "{}", signal, heard } = {}) {
  const headers = { "content-type": "application/json", accept: "application/json, text/event-stream", "mcp-protocol-version": MCP, "mcp-method": method };
  if (name) headers["mcp-name"] = `=?base64?${btoa(String.fromCharCode(...new TextEncoder().encode(name)))}?=`;
  const params = `{"_meta":${JSON.stringify(META)}${name && `,"name":${JSON.stringify(name)},"arguments":${text}`}}`;
  const answer = await send("POST", "/mcp", { headers, signal, body: `{"jsonrpc":"2.0","id":1,"method":"${method}","params":${params}}` });
  const isStream = answer.headers.get("content-type")?.startsWith("text/event-stream");
  const { result, error, ...problem } = isStream ? await lastOf(answer.body, heard) : await answer.json().catch(() => ({}));
  if (!result) throw new Refused(answer.status, error ? { detail: error.message } : problem);
  // A destructive tool without the admin token.
  if (result._meta?.epochal?.code === "right") throw new Refused(401, { detail: result.content[0].text });
  return result;
}

/** The last message of a stream. */
async function lastOf(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let [text, last] = ["", {}];
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const lines = (text + part.value).split("\r\n");
    text = lines.pop();
    for (const line of lines.filter((one) => one.startsWith("data: "))) {
      last = JSON.parse(line.slice(6));
      if (last.method) heard(last.params);
    }
  }
  return last;
}
