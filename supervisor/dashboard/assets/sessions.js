// Which session is shown, and which there are.

import { h } from "./dom.js";
import { newId } from "./store.js";

const LISTED_MAX = 60;
const TITLE_CHARS_MAX = 48;
/** Changes come in small groups. */
const READ_WAIT_MS = 150;
const READ_EVERY_MS = 700;

/** The agent of a key `agent:<id>:…`. */
export function agentOf(key) {
  return /^agent:([^:]+):/.exec(key ?? "")?.[1];
}

/** A key for a new conversation of an agent. */
export function newSessionKey(agentId) {
  return `agent:${agentId}:web-${newId().slice(0, 8)}`;
}

/** What a session is called in the list: by people, else a chat of this page by its first words, others by their key. */
export function titleOf(row, mainKey) {
  const own = row.label || row.displayName || row.autoLabel || row.subject;
  const rest = row.key.replace(/^agent:[^:]+:/, "");
  let title = own || (row.key === mainKey ? "Main" : rest);
  if (!own && rest.startsWith("web-")) {
    // Without words yet the gateway tells the start of the session's id.
    const words = row.sessionId?.startsWith(row.derivedTitle) ? undefined : row.derivedTitle;
    title = words || `Chat ${rest.slice(4)}`;
  }
  title = title.replace(/\s+/g, " ").trim();
  return title.length > TITLE_CHARS_MAX ? `${title.slice(0, TITLE_CHARS_MAX - 1)}…` : title;
}

export class SessionPicker {
  /** `select`: the element; `chosen(key)`: a person picked another. */
  constructor({ gateway, select, chosen }) {
    Object.assign(this, { gateway, select, chosen });
    this.rows = [];
    select.addEventListener("change", () => chosen(select.value));
  }

  /** Show `key` as the current one. */
  show(key, mainKey) {
    this.key = key;
    this.mainKey = mainKey ?? this.mainKey;
    this.draw();
  }

  row(key) {
    return this.rows.find((row) => row.key === key);
  }

  /** Read the list soon; however often others change it, it is read in bounded time and at a bounded pace. */
  refresh() {
    const rest = (this.readAt ?? 0) + READ_EVERY_MS - Date.now();
    this.timer ??= setTimeout(() => void this.load(), Math.min(Math.max(rest, READ_WAIT_MS), READ_EVERY_MS));
  }

  async load() {
    this.timer = undefined;
    this.readAt = Date.now();
    try {
      const answer = await this.gateway.request("sessions.list", {
        includeGlobal: true, includeUnknown: false, includeDerivedTitles: true, limit: LISTED_MAX,
      });
      this.rows = (answer?.sessions ?? []).filter((row) => typeof row?.key === "string");
      this.draw();
      this.onloaded?.();
    } catch {
      // The current session stays; the list comes with the next event.
    }
  }

  draw() {
    const rows = [...this.rows];
    for (const key of [this.mainKey, this.key]) {
      if (key && !rows.some((row) => row.key === key)) rows.unshift({ key, fresh: key !== this.mainKey });
    }
    const first = (row) => (row.key === this.mainKey ? 1 : 0);
    rows.sort((a, b) => first(b) - first(a) || (b.updatedAt ?? Infinity) - (a.updatedAt ?? Infinity) || 0);
    const option = (row) => h("option", { value: row.key, selected: row.key === this.key },
      row.fresh ? "New chat" : titleOf(row, this.mainKey));
    const agents = [...new Set(rows.map((row) => agentOf(row.key) ?? "other"))];
    const drawn = JSON.stringify([rows.map((r) => [r.key, r.fresh ? 1 : titleOf(r, this.mainKey)]), this.key]);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const children = agents.length < 2
      ? rows.map(option)
      : agents.map((agent) => h("optgroup", { label: agent }, rows.filter((r) => (agentOf(r.key) ?? "other") === agent).map(option)));
    this.select.replaceChildren(...children);
    this.select.value = this.key;
  }
}
