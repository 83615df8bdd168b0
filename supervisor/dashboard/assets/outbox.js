// Messages on their way. A message keeps its idempotency key until the gateway says that it took it; it is sent
// again with the same key after a lost connection or a reload, so that it counts once.

import { store } from "./store.js";

/** After a refusal that may pass. */
const RETRY_MS = 2_000;
/** Clocks of two machines may differ by this when texts are compared. */
const CLOCK_MS = 120_000;

export class Outbox extends EventTarget {
  /** `taken(message, answer)` is called when the gateway took a message. Event `change`. */
  constructor({ gateway, taken }) {
    super();
    Object.assign(this, { gateway, taken });
    this.messages = store.unsent.map((message) => ({ ...message, state: "unsent" }));
  }

  /** Those of one session. */
  of(sessionKey) {
    return this.messages.filter((m) => m.sessionKey === sessionKey);
  }

  add(message) {
    this.messages.push({ ...message, state: "unsent" });
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
      this.set(id, { state: "taken" });
      this.taken(this.messages.find((m) => m.id === id), answer ?? {});
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

  /** The gateway said that this one waits behind another. */
  queued(id) {
    if (this.messages.find((m) => m.id === id)?.state === "taken") this.set(id, { state: "queued" });
  }

  /** Forget those that the history shows: by key, or by text where a queue has put them under another run. */
  settle(sessionKey, history, idle) {
    const users = history.filter((g) => g.role === "user");
    const keys = new Set(users.map((g) => g.key));
    const shown = (m) => keys.has(`user:${m.id}`) || users.some((g) =>
      (g.ts ?? 0) >= m.at - CLOCK_MS && g.parts.some((p) => p.type === "text" && p.text.includes(m.text)));
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
    const unsent = this.messages.filter((m) => ["unsent", "sending", "failed"].includes(m.state));
    store.unsent = unsent.map(({ id, sessionKey, text, at }) => ({ id, sessionKey, text, at }));
    this.dispatchEvent(new Event("change"));
  }
}
