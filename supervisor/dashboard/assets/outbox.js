// Messages on their way. A message keeps its idempotency key until the gateway says that it took it; it is sent
// again with the same key after a lost connection or a reload, so that it counts once. One that was taken is kept
// until the history shows it: behind another run that takes a while.

import { store } from "./store.js";

/** After a refusal that may pass. */
const RETRY_MS = 2_000;
/** Clocks of two machines may differ by this when texts are compared. */
const CLOCK_MS = 120_000;
/** A message that was taken this long ago and that no history shows was dropped on purpose (a reset, say). */
const TAKEN_KEPT_MS = 3_600_000;
/** Ids of this load's messages that are told apart from those of other pages. */
const OWN_MAX = 256;

export class Outbox extends EventTarget {
  /** `taken(message, answer)` is called when the gateway took a message. Event `change`. */
  constructor({ gateway, taken }) {
    super();
    Object.assign(this, { gateway, taken });
    this.messages = restored(store.unsent, Date.now());
    this.own = new Set(this.messages.map((m) => m.id));
  }

  /** Those of one session. */
  of(sessionKey) {
    return this.messages.filter((m) => m.sessionKey === sessionKey);
  }

  add(message) {
    this.messages.push({ ...message, state: "unsent" });
    this.own.add(message.id);
    if (this.own.size > OWN_MAX) this.own.delete(this.own.values().next().value);
    this.changed();
    this.flush();
  }

  retry(id) {
    this.set(id, { state: "unsent", problem: undefined });
    this.flush();
  }

  discard(id) {
    this.messages = this.messages.filter((m) => m.id !== id);
    this.changed();
  }

  /** Send what is unsent, in order, one at a time. */
  async flush() {
    if (this.flushing) return;
    this.flushing = true;
    clearTimeout(this.timer);
    try {
      for (let next = this.next(); next && this.gateway.ready; next = this.next()) {
        if (!(await this.send(next))) break;
      }
    } finally {
      this.flushing = false;
    }
  }

  next() {
    return this.messages.find((m) => m.state === "unsent");
  }

  async send({ id, sessionKey, text }) {
    this.set(id, { state: "sending" });
    try {
      const answer = await this.gateway.request("chat.send", { sessionKey, message: text, idempotencyKey: id, deliver: false });
      const message = this.messages.find((m) => m.id === id);
      if (!message) return true;
      this.set(id, { state: message.waits ? "queued" : "taken" });
      this.taken(message, answer ?? {});
      return true;
    } catch (error) {
      if (!error.retryable) {
        this.set(id, { state: "failed", problem: error.message });
        return true;
      }
      this.set(id, { state: "unsent" });
      if (this.gateway.ready) this.timer = setTimeout(() => void this.flush(), error.retryAfterMs ?? RETRY_MS);
      return false;
    }
  }

  has(id) {
    return this.messages.some((m) => m.id === id);
  }

  /** The gateway said that this one waits behind another; it may say so before it answers the request. */
  queued(id) {
    const state = this.messages.find((m) => m.id === id)?.state;
    if (state === "taken") this.set(id, { state: "queued" });
    else if (state === "sending") this.set(id, { waits: true });
  }

  /** Forget those that the history shows: by key, or by text where a queue has put them under another run. */
  settle(sessionKey, history, idle) {
    const shown = (m) => isShown(m, history, this.own);
    const before = this.messages.length;
    this.messages = this.messages.filter((m) => {
      if (m.sessionKey !== sessionKey || !["taken", "queued"].includes(m.state)) return true;
      return !(shown(m) || (idle && m.text.startsWith("/")));
    });
    if (this.messages.length !== before) this.changed();
  }

  set(id, change) {
    this.messages = this.messages.map((m) => (m.id === id ? { ...m, ...change } : m));
    this.changed();
  }

  changed() {
    store.unsent = this.messages.map(({ id, sessionKey, text, at, state }) => ({ id, sessionKey, text, at, state }));
    this.dispatchEvent(new Event("change"));
  }
}

/** Pure: what a load goes on with of the messages that the one before it left. */
export function restored(kept, now) {
  const taken = (m) => m.state === "taken" || m.state === "queued";
  return kept.filter((m) => !taken(m) || now - m.at < TAKEN_KEPT_MS).map((m) => ({ ...m, state: taken(m) ? m.state : "unsent" }));
}

/**
 * Pure: whether the history has the message: by its key, or as whole lines of a message that a queue has put together.
 * `own`: ids of messages whose text says nothing about others.
 */
export function isShown({ id, at, text }, history, own) {
  const users = history.filter((g) => g.role === "user");
  const holds = (p) => p.type === "text" && `\n${p.text}\n`.includes(`\n${text}\n`);
  return users.some((g) => g.key === `user:${id}`) ||
    users.some((g) => !own.has(g.key.slice("user:".length)) && (g.ts ?? 0) >= at - CLOCK_MS && g.parts.some(holds));
}
