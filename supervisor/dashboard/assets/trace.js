// What became of a message, step by step, in a dialog. It opens with the last run and follows it while more is to come.

import { h, setText } from "./dom.js";

const POLL_MS = 700;

export class Trace {
  /** `gateway`: for the questions. `dialog`, `form`, `id`, `list`, `sum`, `open`: its parts, and the button that opens it. */
  constructor(parts) {
    Object.assign(this, parts);
    this.open.addEventListener("click", () => this.show("last"));
    this.dialog.addEventListener("close", () => clearTimeout(this.timer));
    this.form.addEventListener("submit", (event) => {
      if (event.submitter?.value === "close") return;
      event.preventDefault();
      this.look(this.id.value.trim() || "last");
    });
  }

  show(id) {
    this.id.value = "";
    this.list.replaceChildren();
    if (!this.dialog.open) this.dialog.showModal();
    this.look(id);
  }

  look(id) {
    clearTimeout(this.timer);
    this.asked = id;
    void this.poll(id);
  }

  async poll(id) {
    let trace;
    try {
      trace = await this.gateway.request("trace.get", { id });
    } catch (error) {
      if (this.asked !== id) return;
      this.list.replaceChildren();
      setText(this.sum, error.message);
      return;
    }
    if (this.asked !== id || !this.dialog.open) return;
    this.draw(trace);
    // Of "last" this one is meant, also when another begins.
    this.asked = trace.run?.id ?? id;
    const next = this.asked;
    if (trace.open) this.timer = setTimeout(() => void this.poll(next), POLL_MS);
  }

  draw({ run, messages, model, steps }) {
    const begin = steps[0]?.atMs ?? 0;
    const row = ({ atMs, by, text }) => h("li", {},
      h("span", { class: "trace-at", title: new Date(atMs).toISOString() }, `+${(atMs - begin).toFixed(1)} ms`),
      h("span", { class: "trace-by" }, by), h("span", {}, text));
    this.list.replaceChildren(...steps.map(row));
    const facts = run
      ? [run.sessionKey, run.durationMs === null ? "not ended yet" : `${run.state === "closed" ? "done" : run.state} after ${(run.durationMs / 1000).toFixed(1)} s`,
        run.attempts > 1 && `${run.attempts} attempts`,
        model.calls > 0 && `${model.calls} model ${model.calls === 1 ? "call" : "calls"}, ${model.inputTokens} tokens in, ${model.outputTokens} out`,
        model.costUsd > 0 && `$${model.costUsd.toFixed(4)}`]
      : [`${messages[0]?.messageId}: ${messages[0]?.state}, no run`];
    setText(this.sum, facts.filter(Boolean).join(" · "));
  }
}
