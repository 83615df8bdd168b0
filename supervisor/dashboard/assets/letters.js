// Messages that nobody will get unless a person decides: poison messages and replies that did not get through.

import { h } from "./dom.js";

const POLL_MS = 15_000;
/** Letters shown at once; the command line lists them all. */
const SHOWN_MAX = 5;

export class Letters {
  /** `gateway`: for the questions. `box`: where they show. */
  constructor({ gateway, box }) {
    Object.assign(this, { gateway, box });
    document.addEventListener("visibilitychange", () => this.plan(0));
  }

  start() {
    this.on = true;
    this.plan(0);
  }

  stop() {
    this.on = false;
    clearTimeout(this.timer);
  }

  plan(ms) {
    clearTimeout(this.timer);
    if (this.on && document.visibilityState === "visible") this.timer = setTimeout(() => void this.poll(), ms);
  }

  async poll() {
    try {
      const answer = await this.gateway.request("dead-letters.list");
      this.show(answer?.deadLetters ?? []);
    } catch {
      // No right to see them, or no connection: the next look tells.
      this.show([]);
    }
    this.plan(POLL_MS);
  }

  show(letters) {
    this.box.hidden = letters.length === 0;
    const rows = letters.slice(0, SHOWN_MAX).map((letter) => this.row(letter));
    const more = letters.length - rows.length;
    if (more > 0) rows.push(h("li", {}, `and ${more} more: openclaw dead-letters`));
    this.box.replaceChildren(h("strong", {}, `Not answered or not delivered (${letters.length})`), h("ul", {}, rows));
  }

  row({ id, kind, account, chat, why }) {
    const act = (method, label) => h("button", { class: "button", type: "button", onclick: () => void this.act(method, id) }, label);
    const what = kind === "outbox" ? "Reply to" : "Message from";
    return h("li", {}, `${what} ${account} ${chat}: ${why} `,
      kind === "imported" ? "" : act("dead-letters.retry", "Try again"), " ", act("dead-letters.discard", "Forget"));
  }

  async act(method, id) {
    try {
      await this.gateway.request(method, { id });
    } catch (error) {
      this.box.append(h("p", { class: "problem", role: "alert" }, error.message));
      this.plan(POLL_MS);
      return;
    }
    this.plan(0);
  }
}
