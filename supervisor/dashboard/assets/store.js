// What the page keeps between loads. The shared token lives as long as the tab (sessionStorage); the token that
// the gateway issued to this browser's device lives in localStorage. Storage may be missing or full: then the
// page works on, and forgets.

const PREFIX = "openclaw.page.";
const memory = new Map();

function area(kind) {
  try {
    return kind === "tab" ? window.sessionStorage : window.localStorage;
  } catch {
    return undefined;
  }
}

function read(kind, key) {
  try {
    return area(kind)?.getItem(PREFIX + key) ?? memory.get(key) ?? undefined;
  } catch {
    return memory.get(key);
  }
}

function write(kind, key, value) {
  if (value === undefined) memory.delete(key);
  else memory.set(key, value);
  try {
    if (value === undefined) area(kind)?.removeItem(PREFIX + key);
    else area(kind)?.setItem(PREFIX + key, value);
  } catch {
    // Full or forbidden: `memory` has it for this load.
  }
}

function readJson(kind, key) {
  try {
    return JSON.parse(read(kind, key) ?? "null") ?? undefined;
  } catch {
    return undefined;
  }
}

export const store = {
  get token() { return read("tab", "token"); },
  set token(value) { write("tab", "token", value); },
  get deviceToken() { return read("browser", "deviceToken"); },
  set deviceToken(value) { write("browser", "deviceToken", value); },
  /** The session shown last, in this tab before in this browser. */
  get session() { return read("tab", "session") ?? read("browser", "session"); },
  set session(value) {
    write("tab", "session", value);
    write("browser", "session", value);
  },
  /** Messages that no history showed yet: `[{id, sessionKey, text, at, state}]`. */
  get unsent() {
    const list = readJson("tab", "unsent");
    return Array.isArray(list) ? list.filter((m) => typeof m?.id === "string" && typeof m.text === "string") : [];
  },
  set unsent(list) { write("tab", "unsent", list.length ? JSON.stringify(list) : undefined); },
  draft(sessionKey) { return read("tab", `draft.${sessionKey}`) ?? ""; },
  setDraft(sessionKey, text) { write("tab", `draft.${sessionKey}`, text || undefined); },
  get instanceId() {
    let id = read("tab", "instance");
    if (!id) {
      id = newId();
      write("tab", "instance", id);
    }
    return id;
  },
};

/** A UUID, version 4; also where `crypto.randomUUID` is missing because the context is not secure. */
export function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** Take `#token=…` and the session out of the address, and leave a clean address behind. */
export function takeFromAddress(location, history) {
  const fragment = new URLSearchParams(location.hash.replace(/^#/, ""));
  const query = new URLSearchParams(location.search);
  const route = /\/chat\/([^/]+)$/.exec(location.pathname);
  const taken = { token: fragment.get("token")?.trim() || undefined, session: query.get("session") ?? undefined };
  if (!taken.session && route) {
    try {
      taken.session = decodeURIComponent(route[1]);
    } catch {
      taken.session = undefined;
    }
  }
  // A token never belongs into the query, where servers log it; one that stands there is removed unused.
  if (fragment.has("token") || query.has("token")) {
    fragment.delete("token");
    query.delete("token");
    const rest = `${query.size ? `?${query}` : ""}${fragment.size ? `#${fragment}` : ""}`;
    history.replaceState(null, "", location.pathname + rest);
  }
  return taken;
}
