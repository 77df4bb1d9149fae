// Requests to the service, and the page's session: the browser has its cookie, this page its key.

const KEY = "epochal-session";

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `the service answered ${status}`);
    this.status = status;
    this.code = problem.code ?? "http";
  }
}

async function ask(method, path, { body, headers = {} } = {}) {
  const key = localStorage.getItem(KEY);
  if (key) headers["epochal-session"] = key;
  if (body !== undefined) headers["content-type"] = "application/json";
  const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
  const document = answer.status === 204 ? {} : await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, document);
  return document;
}

export const get = (path) => ask("GET", path);
export const query = (sql) => ask("POST", "/v1/query", { body: { sql, limit: 1000 } });

/** Request a change; `epoch` is the id of the epoch that the page shows. */
export const change = (method, path, epoch, body) =>
  ask(method, path, { body, headers: { "if-match": `"${epoch}"` } });

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
