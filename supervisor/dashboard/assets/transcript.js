// The conversation on the screen: keeps a node per group and per part and changes only what differs.

import { ICONS, copyButton, h, icon, setText } from "./dom.js";
import { MarkdownView } from "./markdown.js";

/** Longer tool results are folded until asked for. */
const RESULT_CHARS_SHOWN = 6_000;

const TOOL_STATES = {
  running: "running",
  done: "done",
  failed: "failed",
  open: "no result",
};

/** One line that says what a tool was asked to do. */
export function toolSummary(args, meta) {
  if (typeof args === "string") return args.split("\n")[0];
  if (args && typeof args === "object") {
    for (const key of ["command", "cmd", "path", "file_path", "file", "pattern", "query", "url", "action", "sessionId"]) {
      if (typeof args[key] === "string" && args[key]) return args[key].split("\n")[0];
    }
    const first = Object.values(args).find((value) => typeof value === "string" && value);
    if (first) return first.split("\n")[0];
  }
  return typeof meta === "string" ? meta.split("\n")[0] : "";
}

function argumentText(args) {
  if (args === undefined || args === null) return "";
  if (typeof args === "string") return args;
  const keys = Object.keys(args);
  if (keys.length === 1 && keys[0] === "command" && typeof args.command === "string") return args.command;
  return keys.length ? JSON.stringify(args, null, 2) : "";
}

class TextPart {
  constructor(markdown) {
    this.el = h("div", { class: markdown ? "text markdown" : "text plain" });
    if (markdown) this.view = new MarkdownView(this.el);
  }

  update({ text }) {
    if (this.view) this.view.update(text);
    else setText(this.el, text);
  }
}

class ThinkingPart {
  constructor() {
    this.body = h("div", { class: "fold-body plain" });
    this.el = h("details", { class: "fold thinking" },
      h("summary", {}, icon(ICONS.chevron, 12), h("span", {}, "Thinking")), this.body);
  }

  update({ text }) {
    setText(this.body, text);
  }
}

class ToolPart {
  constructor() {
    this.name = h("span", { class: "tool-name" });
    this.summary = h("span", { class: "tool-summary" });
    this.state = h("span", { class: "tool-state" });
    this.args = h("pre", { tabindex: "0" });
    this.result = h("pre", { tabindex: "0" });
    this.more = h("button", { type: "button", class: "button small-button", onclick: () => this.showAll() }, "Show all");
    this.argsBox = h("div", { class: "tool-part" }, h("div", { class: "tool-label" }, h("span", {}, "Arguments")), this.args);
    this.resultBox = h("div", { class: "tool-part" },
      h("div", { class: "tool-label" }, h("span", {}, "Result"), copyButton(() => this.full ?? "")), this.result, this.more);
    this.body = h("div", { class: "fold-body" }, this.argsBox, this.resultBox);
    this.el = h("details", { class: "fold tool" },
      h("summary", {}, icon(ICONS.chevron, 12), this.name, this.summary, this.state), this.body);
    this.all = false;
  }

  update({ name, args, meta, status, result }) {
    setText(this.name, name);
    setText(this.summary, toolSummary(args, meta));
    this.el.dataset.status = status;
    setText(this.state, TOOL_STATES[status] ?? status);
    const text = argumentText(args);
    this.argsBox.hidden = !text;
    setText(this.args, text);
    this.full = result;
    this.showResult(status);
  }

  showResult(status) {
    const text = this.full ?? "";
    const long = !this.all && text.length > RESULT_CHARS_SHOWN;
    this.resultBox.hidden = this.full === undefined;
    setText(this.result, long ? `${text.slice(0, RESULT_CHARS_SHOWN)}…` : text || (status === "running" ? "" : "(empty)"));
    this.more.hidden = !long;
  }

  showAll() {
    this.all = true;
    this.showResult();
  }
}

class LinePart {
  constructor(kind) {
    this.text = h("span");
    this.el = h("div", { class: `line ${kind}` }, kind === "error" ? icon(ICONS.warn) : null, this.text);
  }

  update({ text }) {
    setText(this.text, text);
  }
}

function makePart(part, role) {
  switch (part.type) {
    case "tool": return new ToolPart();
    case "thinking": return new ThinkingPart();
    case "text": return new TextPart(role !== "user");
    default: return new LinePart(part.type);
  }
}

const SENDING = {
  unsent: "Not sent yet: waiting for the connection",
  sending: "Sending…",
  queued: "Waits for the answer before it",
  failed: "Not sent",
};

class GroupView {
  constructor(group, hooks) {
    this.hooks = hooks;
    this.role = group.role;
    this.parts = new Map();
    this.who = h("div", { class: "who" });
    this.body = h("div", { class: "body" });
    this.foot = h("div", { class: "foot", hidden: true });
    this.dots = h("div", { class: "dots", role: "img", "aria-label": "Working" }, h("span"), h("span"), h("span"));
    this.el = h("article", { class: `group ${group.role}` }, this.who, this.body, this.foot);
  }

  update(group) {
    if (group === this.group) return;
    this.group = group;
    this.heading(group);
    const seen = new Set();
    let after = null;
    for (const part of group.parts) {
      seen.add(part.id);
      let view = this.parts.get(part.id);
      if (!view) {
        view = makePart(part, group.role);
        this.parts.set(part.id, view);
      }
      if (view.part !== part) view.update(part);
      view.part = part;
      const next = after ? after.nextSibling : this.body.firstChild;
      if (next !== view.el) this.body.insertBefore(view.el, next);
      after = view.el;
    }
    for (const [id, view] of this.parts) {
      if (seen.has(id)) continue;
      view.el.remove();
      this.parts.delete(id);
    }
    const waits = group.live && group.parts.at(-1)?.status !== "running";
    this.el.classList.toggle("live", Boolean(group.live));
    if (waits) this.body.after(this.dots);
    else this.dots.remove();
    this.footing(group);
  }

  heading(group) {
    if (group.role === "note") return;
    const time = group.ts ? new Date(group.ts) : undefined;
    const label = group.role === "user" ? "You" : this.hooks.agentName();
    const key = `${label}|${group.ts}`;
    if (this.head === key) return;
    this.head = key;
    const stamp = time && h("time", { datetime: time.toISOString(), title: time.toLocaleString() },
      time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
    this.who.replaceChildren(h("span", { class: "name" }, label), ...(stamp ? [stamp] : []));
  }

  footing(group) {
    const text = SENDING[group.state];
    this.foot.hidden = !text;
    this.el.dataset.state = group.state ?? "";
    if (!text) return;
    const key = `${group.state}|${group.problem ?? ""}`;
    if (this.footKey === key) return;
    this.footKey = key;
    const actions = group.state === "failed"
      ? [h("button", { type: "button", class: "link", onclick: () => this.hooks.retry(group.out.id) }, "Try again"),
        h("button", { type: "button", class: "link", onclick: () => this.hooks.discard(group.out.id) }, "Discard")]
      : [];
    this.foot.replaceChildren(h("span", {}, group.problem ? `${text}: ${group.problem}` : text), ...actions);
  }
}

/** Pixels from the end within which the view stays at the end. */
const STICK_PX = 64;

export class Transcript {
  /** `hooks`: `{agentName(), retry(id), discard(id)}`. */
  constructor({ scroller, list, toBottom, hooks }) {
    Object.assign(this, { scroller, list, toBottom, hooks });
    this.views = new Map();
    this.stick = true;
    scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
    toBottom.addEventListener("click", () => this.goToEnd());
    new ResizeObserver(() => this.follow()).observe(list);
    new ResizeObserver(() => this.follow()).observe(scroller);
  }

  /** Start over with another session. */
  clear() {
    this.list.replaceChildren();
    this.views.clear();
    this.stick = true;
  }

  render(groups) {
    const seen = new Set();
    let after = null;
    for (const group of groups) {
      seen.add(group.key);
      let view = this.views.get(group.key);
      if (!view) {
        view = new GroupView(group, this.hooks);
        this.views.set(group.key, view);
      }
      view.update(group);
      const next = after ? after.nextSibling : this.list.firstChild;
      if (next !== view.el) this.list.insertBefore(view.el, next);
      after = view.el;
    }
    for (const [key, view] of this.views) {
      if (seen.has(key)) continue;
      view.el.remove();
      this.views.delete(key);
    }
    this.follow();
  }

  /** The agent's name changed. */
  rename() {
    for (const view of this.views.values()) view.heading(view.group);
  }

  atEnd() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight <= STICK_PX;
  }

  scrolled() {
    // Growth of the content also fires this event; only a move upwards lets go of the end.
    if (this.scroller.scrollTop < (this.lastTop ?? 0) - 2 && !this.atEnd()) this.stick = false;
    else if (this.atEnd()) this.stick = true;
    this.lastTop = this.scroller.scrollTop;
    this.toBottom.hidden = this.stick || this.atEnd();
  }

  follow() {
    if (this.stick) {
      this.scroller.scrollTop = this.scroller.scrollHeight;
      this.lastTop = this.scroller.scrollTop;
    }
    this.toBottom.hidden = this.stick || this.atEnd();
  }

  goToEnd() {
    this.stick = true;
    this.follow();
  }

  /** Do something that adds content above without moving what is being read. */
  keepPlace(act) {
    const fromEnd = this.scroller.scrollHeight - this.scroller.scrollTop;
    act();
    if (!this.stick) this.scroller.scrollTop = this.scroller.scrollHeight - fromEnd;
  }
}
