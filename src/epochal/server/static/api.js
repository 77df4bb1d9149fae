// Requests to the service, and the page's session: the browser has its cookie, this page its key.

const KEY = "epochal-session";

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `the service answered ${status}`);
    this.status = status;
    this.code = problem.code ?? "http";
  }
}

// Addresses are relative to the page's, which may lie below a proxy's path.
export function send(method, path, { body, headers = {}, signal } = {}) {
  const key = localStorage.getItem(KEY);
  if (key) headers["epochal-session"] = key;
  return fetch(path.slice(1), { method, headers, body, signal, cache: "no-store" });
}

async function ask(method, path, { body, file, headers = {} } = {}) {
  if (body !== undefined) headers["content-type"] = "application/json";
  const answer = await send(method, path, { headers, body: file ?? (body && JSON.stringify(body)) });
  const document = answer.status === 204 ? {} : await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, document);
  return document;
}

export const get = (path) => ask("GET", path);
export const query = (sql) => ask("POST", "/v1/query", { body: { sql, limit: 1000 } });

/** Request a change; `epoch` is the id of the epoch that the page shows. */
export const change = (method, path, epoch, { body, file, config } = {}) =>
  ask(method, path, { body, file, headers: { "if-match": `"${epoch}"`, ...configHeader(config) } });

export const post = (path) => ask("POST", path);

/** The configuration as a header, which is ASCII; none where it stays as it is. */
const configHeader = (config) => (config === undefined ? {}
  : { "epochal-config": JSON.stringify(config).replace(/[^ -~]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`) });

/** Whether this page may change plugins. */
export async function mayChange() {
  return (await get("/v1/session")).rights.includes("change");
}

/** Open a session with the admin token, which is not stored. */
export async function signIn(token) {
  const { key } = await ask("POST", "/v1/session", { headers: { authorization: `Bearer ${token}` } });
  localStorage.setItem(KEY, key);
}

export async function signOut() {
  await ask("DELETE", "/v1/session").catch(() => {});
  localStorage.removeItem(KEY);
}
