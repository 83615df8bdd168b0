// The strip of processes and the banner that says what is not as it should be.

import { h, setText } from "./dom.js";

const POLL_MS = 3_000;
const INFO_EVERY_POLLS = 4;

const TONES = {
  ready: "good", running: "good", busy: "good", idle: "good", connected: "good",
  starting: "busy", spawning: "busy", handshake: "busy", draining: "busy", stopping: "busy", restarting: "busy", waiting: "busy",
  backoff: "bad", quarantined: "bad", failed: "bad", crashed: "bad", degraded: "bad", hung: "bad", error: "bad", dead: "bad",
};

/** Colour class of a worker's state; unknown and resting states are neutral. */
export function toneOf(state) {
  return TONES[String(state ?? "").toLowerCase()] ?? "rest";
}

/** Kilobytes for people. */
export function memoryText(kilobytes) {
  if (!(kilobytes > 0)) return "";
  const megabytes = kilobytes / 1024;
  return megabytes >= 1024 ? `${(megabytes / 1024).toFixed(1)} GB` : `${megabytes.toFixed(megabytes < 10 ? 1 : 0)} MB`;
}

/** A span of time in its largest unit. */
export function ageText(ms) {
  if (!(ms >= 0)) return "";
  const seconds = Math.floor(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** Everything that the gateway reports as wrong, as sentences, each once. */
export function problemsOf({ health, info, workers }) {
  const found = new Set();
  const add = (text) => text && found.add(String(text));
  for (const source of [info, health]) {
    if (Array.isArray(source?.degraded)) source.degraded.forEach((entry) => add(typeof entry === "string" ? entry : (entry?.message ?? entry?.text)));
  }
  if (health && health.ok === false && !found.size) add("The gateway reports that it is not healthy.");
  // The health comes with every change of the configuration's state, the rest only now and then.
  if (health?.ts) {
    for (const text of found) if (text.startsWith("config: ")) found.delete(text);
    if (health.config?.line) add(`config: ${health.config.line}`);
  }
  for (const worker of workers ?? []) {
    if (toneOf(worker.state) !== "bad") continue;
    if ([...found].some((text) => text.includes(worker.id))) continue;
    add(`${worker.id}: ${worker.state}${worker.why ? ` – ${worker.why}` : ""}`);
  }
  return [...found];
}

class Chip {
  constructor() {
    this.dot = h("span", { class: "dot", "aria-hidden": "true" });
    this.name = h("span", { class: "chip-name" });
    this.state = h("span", { class: "chip-state" });
    this.facts = h("span", { class: "chip-facts" });
    this.el = h("li", { class: "chip" }, this.dot,
      h("span", { class: "chip-text" }, h("span", { class: "chip-line" }, this.name, this.state), this.facts));
  }

  update(worker, now) {
    const { id, kind, pid, state, restarts, sinceMs, why, sandbox, controlGroup } = worker;
    setText(this.name, id);
    setText(this.state, state ?? "");
    this.el.dataset.tone = toneOf(state);
    const memory = memoryText(worker.pssKb ?? worker.rssKb);
    const facts = [
      pid ? `pid ${pid}` : "no process", memory,
      restarts === undefined ? "" : `${restarts} ${restarts === 1 ? "restart" : "restarts"}`,
      sandbox?.tier,
    ];
    setText(this.facts, facts.filter(Boolean).join(" · "));
    const age = sinceMs ? ageText(now - sinceMs) : "";
    this.el.title = [kind && `${kind} worker`, age && `${state} for ${age}`, why,
      sandbox?.text && `confined: ${sandbox.text}`, controlGroup?.text && `control group: ${controlGroup.text}`,
      ...(sandbox?.amiss ?? [])].filter(Boolean).join("\n");
  }
}

export class WorkerStrip {
  /** `gateway`: for the questions. `box`, `list`, `banner`: where it shows. */
  constructor({ gateway, box, list, banner }) {
    Object.assign(this, { gateway, box, list, banner });
    this.chips = new Map();
    this.polls = 0;
    document.addEventListener("visibilitychange", () => this.plan(0));
  }

  /** Connected: ask from now on. */
  start(hello) {
    this.on = true;
    this.polls = 0;
    this.missing = false;
    this.offset = 0;
    this.health = hello.snapshot?.health;
    this.info = undefined;
    this.version = hello.server?.version;
    this.box.classList.remove("stale");
    this.showBanner("", []);
    this.plan(0);
  }

  /** Not connected: what is shown is what was heard last. */
  stop() {
    this.on = false;
    this.box.classList.add("stale");
    clearTimeout(this.timer);
  }

  /** Say why nothing can be known of the gateway now. */
  away(text) {
    if (!this.on) this.showBanner("No connection", [text]);
  }

  onHealth(health) {
    this.health = health;
    this.plan(100);
  }

  plan(ms) {
    clearTimeout(this.timer);
    if (this.on && !this.missing && document.visibilityState === "visible") this.timer = setTimeout(() => void this.poll(), ms);
  }

  async poll() {
    try {
      if (this.polls % INFO_EVERY_POLLS === 0) this.info = await this.gateway.request("system.info", { gateway: true }).catch(() => undefined);
      this.polls += 1;
      const answer = await this.gateway.request("workers.list");
      this.workers = Array.isArray(answer) ? answer : (answer?.workers ?? []);
    } catch (error) {
      this.missing = /unknown method/.test(error.message);
    }
    if (!this.on) return;
    this.show();
    this.plan(POLL_MS);
  }

  show() {
    const rows = [...(this.workers ?? [])];
    if (this.info?.pid && !rows.some((w) => w.id === "supervisor")) {
      const { pid, pssKb, rssKb, uptimeMs } = this.info;
      rows.unshift({ id: "supervisor", kind: "supervisor", state: "ready", pid, pssKb, rssKb, sinceMs: uptimeMs && Date.now() - uptimeMs });
    }
    this.box.hidden = rows.length === 0;
    const seen = new Set();
    rows.forEach((worker, index) => {
      seen.add(worker.id);
      let chip = this.chips.get(worker.id);
      if (!chip) {
        chip = new Chip();
        this.chips.set(worker.id, chip);
      }
      chip.update(worker, Date.now());
      if (this.list.children[index] !== chip.el) this.list.insertBefore(chip.el, this.list.children[index] ?? null);
    });
    for (const [id, chip] of this.chips) {
      if (seen.has(id)) continue;
      chip.el.remove();
      this.chips.delete(id);
    }
    const problems = problemsOf(this);
    this.showBanner(problems.length > 1 ? `Degraded (${problems.length})` : "Degraded", problems);
  }

  showBanner(title, lines) {
    this.banner.hidden = lines.length === 0;
    const text = [title, ...lines].join("\n");
    if (this.bannerText === text) return;
    this.bannerText = text;
    this.banner.replaceChildren(h("strong", {}, title), h("ul", {}, lines.map((line) => h("li", {}, line))));
  }
}
