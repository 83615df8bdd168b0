// The page: puts connection, conversation and view together.

import { Conversation } from "./conversation.js";
import { h, setText } from "./dom.js";
import { Gateway } from "./gateway.js";
import { loadIdentity } from "./identity.js";
import { Outbox } from "./outbox.js";
import { SessionPicker, agentOf, newSessionKey } from "./sessions.js";
import { SignIn } from "./signin.js";
import { newId, store, takeFromAddress } from "./store.js";
import { Transcript } from "./transcript.js";
import { Letters } from "./letters.js";
import { Trace } from "./trace.js";
import { WorkerStrip } from "./workers.js";

const HISTORY_FIRST = 120;
const HISTORY_MAX = 1000;
const HISTORY_WAIT_MS = 120;
const ANNOUNCED_CHARS_MAX = 1200;
const TEXTAREA_PX_MAX = 240;
/** A connection that is back within this time was not worth a word. */
const AWAY_MS = 1200;
const TRIES = ["What can you do?", "run: uname -a", "read README.md"];

const find = (id) => document.getElementById(id);
const el = Object.fromEntries(["agent", "sessions", "new-chat", "connection", "connection-text", "workers", "worker-list", "banner", "letters",
  "scroller", "earlier", "welcome", "transcript", "to-bottom", "composer", "message", "stop", "send", "version", "announce", "sign-in",
  "trace", "trace-form", "trace-id", "trace-list", "trace-sum", "trace-open",
].map((id) => [id.replaceAll("-", "_"), find(id)]));

class Page {
  constructor(identity, identityProblem) {
    this.identityProblem = identityProblem;
    this.serverOffsetMs = 0;
    this.limit = HISTORY_FIRST;
    this.gateway = new Gateway({
      url: socketUrl(), identity, version: "1",
      secrets: () => ({ token: store.token, deviceToken: store.deviceToken, instanceId: store.instanceId }),
    });
    this.outbox = new Outbox({ gateway: this.gateway, taken: (message, answer) => this.taken(message, answer) });
    this.picker = new SessionPicker({ gateway: this.gateway, select: el.sessions, chosen: (key) => this.openSession(key) });
    this.strip = new WorkerStrip({ gateway: this.gateway, box: el.workers, list: el.worker_list, banner: el.banner });
    this.letters = new Letters({ gateway: this.gateway, box: el.letters });
    this.trace = new Trace({
      gateway: this.gateway, dialog: el.trace, form: el.trace_form, id: el.trace_id, list: el.trace_list, sum: el.trace_sum, open: el.trace_open,
    });
    this.signIn = new SignIn({ dialog: el.sign_in, submit: (token) => this.useToken(token), again: () => this.gateway.connect() });
    this.view = new Transcript({
      scroller: el.scroller, list: el.transcript, toBottom: el.to_bottom,
      hooks: {
        agentName: () => this.agentName ?? "Assistant",
        retry: (id) => this.outbox.retry(id),
        discard: (id) => this.outbox.discard(id),
      },
    });
    this.listen();
  }

  start(session) {
    const key = session ?? store.session;
    if (key) this.openSession(key);
    this.gateway.connect();
  }

  listen() {
    const { gateway } = this;
    gateway.addEventListener("state", ({ detail }) => this.onState(detail));
    gateway.addEventListener("hello", ({ detail }) => this.onHello(detail));
    gateway.addEventListener("event", ({ detail }) => this.onEvent(detail));
    gateway.addEventListener("gap", () => this.readHistory());
    this.outbox.addEventListener("change", () => this.redraw());
    this.picker.onloaded = () => this.redraw();
    el.composer.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    el.message.addEventListener("input", () => this.typed());
    el.message.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.submit();
      }
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !el.stop.hidden && !el.sign_in.open) void this.stopRun();
    });
    el.stop.addEventListener("click", () => void this.stopRun());
    el.new_chat.addEventListener("click", () => this.newChat());
    el.earlier.addEventListener("click", () => {
      this.limit = HISTORY_MAX;
      this.readHistory();
    });
    el.connection.addEventListener("click", () => this.gateway.hurry());
  }

  // --- connection

  onState({ state, error, kind, inMs, reason }) {
    const texts = { connecting: "Connecting", connected: "Connected", pairing: "Waits for approval", refused: "Not connected" };
    const waiting = this.ending === "restart" ? "Restarting" : "Reconnecting";
    setText(el.connection_text, texts[state] ?? waiting);
    el.connection.dataset.state = state;
    el.connection.title = [error?.message ?? reason, inMs > 1000 && `next try in ${Math.round(inMs / 1000)} s; press to try now`]
      .filter(Boolean).join("\n") || "Connection to the gateway";
    if (state === "connected") this.arrived();
    else {
      this.strip.stop();
      this.letters.stop();
    }
    if (state === "waiting") this.awayTimer ??= setTimeout(() => this.strip.away(awayText(this.ending)), AWAY_MS);
    if (state === "pairing") this.explainPairing(error);
    if (state === "refused") this.onRefused(error, kind);
    this.buttons();
  }

  arrived() {
    clearTimeout(this.awayTimer);
    this.awayTimer = this.ending = undefined;
    this.signIn.close();
  }

  /** The gateway announced its end; the lost connection follows. */
  onShutdown({ restartExpectedMs }) {
    this.ending = restartExpectedMs ? "restart" : "stop";
    setText(el.connection_text, restartExpectedMs ? "Restarting" : "Stopping");
  }

  onRefused(error, kind) {
    clearTimeout(this.awayTimer);
    this.awayTimer = undefined;
    const code = error.details?.code;
    if (code === "AUTH_TOKEN_MISMATCH" || code === "AUTH_PASSWORD_MISMATCH") store.token = undefined;
    if (code === "AUTH_DEVICE_TOKEN_MISMATCH") {
      store.deviceToken = undefined;
      // The shared token may still be good; without one the gateway says what it wants.
      this.gateway.connect();
      return;
    }
    if (kind === "secret") this.signIn.ask(error);
    else if (kind === "device") this.signIn.explain("This browser cannot prove who it is here", this.identityProblem ?? error.message, error.message);
    else this.signIn.explain("The gateway refused the connection", error.message);
  }

  explainPairing(error) {
    const id = error.details?.requestId;
    const text = "This browser is new to the gateway and has to be approved once. On the gateway's machine run: " +
      `openclaw devices approve${id ? ` ${id}` : ""}. This page goes on by itself afterwards.`;
    this.signIn.explain("Waiting for approval", text);
  }

  useToken(token) {
    store.token = token;
    this.signIn.close();
    this.gateway.connect();
  }

  onHello({ hello, serverOffsetMs }) {
    this.serverOffsetMs = serverOffsetMs;
    if (hello.auth?.deviceToken) store.deviceToken = hello.auth.deviceToken;
    const defaults = hello.snapshot?.sessionDefaults ?? {};
    this.mainKey = defaults.mainSessionKey ?? `agent:${defaults.defaultAgentId ?? "main"}:main`;
    this.defaultAgent = defaults.defaultAgentId ?? agentOf(this.mainKey) ?? "main";
    setText(el.version, hello.server?.version ? `OpenClaw ${hello.server.version}` : "");
    this.strip.start(hello);
    this.letters.start();
    if (!this.conversation) this.openSession(this.mainKey);
    else this.rejoin();
    void this.quietly("sessions.subscribe", {});
    this.picker.show(this.conversation.sessionKey, this.mainKey);
    this.picker.refresh();
    void this.outbox.flush();
  }

  /** A new connection tells nothing of before: read it. */
  rejoin() {
    this.conversation.forgetLive();
    this.followSession();
    this.readHistory(0);
  }

  followSession() {
    const key = this.conversation.sessionKey;
    void this.quietly("sessions.messages.subscribe", { key });
    void this.nameAgent(key);
  }

  async quietly(method, params) {
    try {
      return await this.gateway.request(method, params);
    } catch {
      return undefined;
    }
  }

  async nameAgent(sessionKey) {
    const found = await this.quietly("agent.identity.get", { sessionKey });
    if (this.conversation?.sessionKey !== sessionKey) return;
    this.agentName = found?.name || agentOf(sessionKey) || "Assistant";
    setText(el.agent, this.agentName);
    document.title = `${this.agentName} · OpenClaw`;
    el.message.placeholder = `Message ${this.agentName}`;
    this.view.rename();
  }

  // --- sessions

  openSession(key) {
    if (this.conversation?.sessionKey === key) return;
    if (this.conversation) store.setDraft(this.conversation.sessionKey, el.message.value);
    this.conversation = new Conversation(key);
    this.limit = HISTORY_FIRST;
    store.session = key;
    el.message.value = store.draft(key);
    this.view.clear();
    this.typed();
    this.picker.show(key, this.mainKey);
    this.redraw();
    if (this.gateway.ready) {
      this.followSession();
      this.readHistory(0);
    }
  }

  newChat() {
    const agent = agentOf(this.conversation?.sessionKey) ?? this.defaultAgent ?? "main";
    this.openSession(newSessionKey(agent));
    el.message.focus();
  }

  readHistory(waitMs = HISTORY_WAIT_MS) {
    clearTimeout(this.historyTimer);
    this.historyTimer = setTimeout(() => void this.loadHistory(), waitMs);
  }

  async loadHistory() {
    const { conversation, limit } = this;
    if (!conversation || !this.gateway.ready) return;
    try {
      const answer = await this.gateway.request("chat.history", { sessionKey: conversation.sessionKey, limit });
      if (conversation !== this.conversation) return;
      const messages = answer?.messages ?? [];
      this.view.keepPlace(() => {
        conversation.setHistory(messages, { hasEarlier: limit < HISTORY_MAX && (answer?.hasMore ?? messages.length >= limit) });
        const running = answer?.inFlightRun?.runId;
        if (running) conversation.begin(running, this.now());
        this.outbox.settle(conversation.sessionKey, conversation.history, !conversation.active.length);
        this.draw();
      });
      this.historyProblem = undefined;
    } catch (error) {
      if (conversation !== this.conversation || error.lost) return;
      this.historyProblem = error.message;
      conversation.loaded = true;
      this.redraw();
    }
  }

  // --- events

  onEvent({ event, payload }) {
    if (event === "health") this.strip.onHealth(payload);
    else if (event === "sessions.changed") this.onSessionChanged(payload);
    else if (event === "shutdown") this.onShutdown(payload);
    else if (event === "session.message" && this.isCurrent(payload) && !this.conversation.active.length) this.readHistory();
    else if (event === "agent" && this.isCurrent(payload)) {
      // A run that was not begun here answers a message that was not written here: read it.
      if (!this.conversation.runs.has(payload.runId) && !this.outbox.has(payload.runId)) this.readHistory();
      this.conversation.onAgent(payload);
      this.redraw();
    } else if (event === "chat" && this.isCurrent(payload)) this.onChat(payload);
  }

  onSessionChanged(payload) {
    this.picker.refresh();
    if (!this.isCurrent(payload) || payload.reason === "turn") return;
    // Reset, compacted or deleted, here or by somebody else: the history is another one.
    this.readHistory();
  }

  isCurrent(payload) {
    return this.conversation !== undefined && payload.sessionKey === this.conversation.sessionKey;
  }

  onChat(payload) {
    const end = this.conversation.onChat(payload);
    this.redraw();
    if (!end) return;
    if (end === "final" && !payload.message && this.conversation.active.length) this.outbox.queued(payload.runId);
    const run = this.conversation.runs.get(payload.runId);
    if (run) this.announce(end, run);
    this.readHistory();
    this.picker.refresh();
  }

  announce(end, run) {
    const words = { aborted: "Stopped.", error: "The run failed." }[end];
    const text = run.parts.filter((p) => p.type === "text" || p.type === "error").map((p) => p.text).join(" ");
    el.announce.textContent = words ? `${words} ${text.slice(0, 200)}` : `${this.agentName ?? "Answer"}: ${text.slice(0, ANNOUNCED_CHARS_MAX)}`;
  }

  // --- sending and stopping

  now() {
    return Date.now() + this.serverOffsetMs;
  }

  submit() {
    const text = el.message.value.trim();
    if (!text) return;
    if (!this.conversation) this.openSession(store.session ?? "agent:main:main");
    el.message.value = "";
    this.typed();
    this.view.stick = true;
    this.outbox.add({ id: newId(), sessionKey: this.conversation.sessionKey, text, at: this.now() });
    this.view.goToEnd();
  }

  taken({ id, sessionKey }, { runId = id, status }) {
    if (sessionKey !== this.conversation?.sessionKey) return;
    if (status === "ok") this.readHistory();
    else if (!this.conversation.runs.has(runId)) this.conversation.begin(runId, this.now());
    this.redraw();
  }

  async stopRun() {
    const { sessionKey } = this.conversation ?? {};
    if (!sessionKey) return;
    el.stop.disabled = true;
    try {
      await this.gateway.request("chat.abort", { sessionKey });
    } catch (error) {
      el.announce.textContent = `Could not stop: ${error.message}`;
    } finally {
      el.stop.disabled = false;
      this.readHistory();
      this.picker.refresh();
    }
  }

  // --- drawing

  typed() {
    const box = el.message;
    box.style.height = "auto";
    box.style.height = `${Math.min(box.scrollHeight, TEXTAREA_PX_MAX)}px`;
    if (this.conversation) store.setDraft(this.conversation.sessionKey, box.value);
    this.buttons();
  }

  buttons() {
    const row = this.picker.row(this.conversation?.sessionKey);
    const busy = Boolean(this.conversation?.active.length) || row?.status === "running";
    el.stop.hidden = !busy || !this.gateway.ready;
    el.send.disabled = !el.message.value.trim();
  }

  /** Draw once per frame, however many events come. */
  redraw() {
    if (this.drawing) return;
    this.drawing = true;
    const frame = document.visibilityState === "visible" ? requestAnimationFrame : (act) => setTimeout(act, 250);
    frame(() => {
      this.drawing = false;
      this.draw();
    });
  }

  draw() {
    const { conversation } = this;
    if (!conversation) return;
    const groups = conversation.groups(this.outbox.of(conversation.sessionKey));
    if (this.historyProblem) {
      groups.push({ key: "problem", role: "note", parts: [{ id: "error:0", type: "error", text: `The history could not be read: ${this.historyProblem}` }] });
    }
    this.view.render(groups);
    el.earlier.hidden = !conversation.hasEarlier;
    const empty = conversation.loaded && groups.length === 0;
    el.welcome.hidden = !empty;
    if (empty && !el.welcome.firstChild) el.welcome.append(...this.welcomeNodes());
    this.buttons();
  }

  welcomeNodes() {
    const tries = TRIES.map((text) => h("button", {
      type: "button", class: "button",
      onclick: () => {
        el.message.value = text;
        this.submit();
      },
    }, text));
    return [h("h2", {}, "What shall we do?"), h("p", {}, "The agent can answer, read and change files, and run commands in its workspace."), h("div", { class: "tries" }, tries)];
  }
}

function awayText(ending) {
  const why = { stop: "The gateway was stopped.", restart: "The gateway is restarting." }[ending] ?? "The gateway does not answer.";
  return `${why} This page connects again by itself and then sends what you write now.`;
}

/** The socket lives where the page lives. */
function socketUrl() {
  const url = new URL("./", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.search = url.hash = "";
  return url.href;
}

const { token, session } = takeFromAddress(location, history);
if (token) store.token = token;
let identity;
let identityProblem;
try {
  identity = await loadIdentity();
} catch (error) {
  // The gateway may be set up to let pages in without a device; if not, it says so and the reason is shown.
  identityProblem = error.message;
}
new Page(identity, identityProblem).start(session);
