// One connection to the gateway that heals itself: handshake of wire protocol 4, requests, events, backoff.
// Not here: what the events mean.

import { devicePayload } from "./identity.js";
import { newId } from "./store.js";

const PROTOCOL = 4;
const HANDSHAKE_MS_MAX = 15_000;
const REQUEST_MS_MAX = 30_000;
const BACKOFF_FIRST_MS = 400;
const BACKOFF_MS_MAX = 15_000;
/** A device that waits for its approval asks again at this pace. */
const PAIRING_POLL_MS = 4_000;
const ROLE = "operator";
const SCOPES = ["operator.admin", "operator.read", "operator.write", "operator.approvals", "operator.pairing"];
const CAPS = ["agent-kind", "tool-events"];

/** A request that the gateway refused, or whose answer never came (`lost`: it may or may not have been taken). */
export class RequestError extends Error {
  constructor(message, { code = "UNAVAILABLE", details, retryable = false, retryAfterMs, lost = false } = {}) {
    super(message);
    Object.assign(this, { code, details, retryable, retryAfterMs, lost });
  }
}

/** How long to wait before the n-th try (from 0). */
export function backoffMs(attempt, random = Math.random()) {
  const full = Math.min(BACKOFF_MS_MAX, BACKOFF_FIRST_MS * 1.8 ** attempt);
  return Math.round(full * (0.7 + 0.3 * random));
}

/** What a refused handshake asks for: `secret`, `pairing`, `device`, `wait` or `fatal`. */
export function refusalKind(error) {
  const code = error.details?.code ?? "";
  if (code === "PAIRING_REQUIRED") return "pairing";
  if (code === "CONTROL_UI_DEVICE_IDENTITY_REQUIRED" || code === "DEVICE_IDENTITY_REQUIRED") return "device";
  if (code === "AUTH_RATE_LIMITED" || error.retryable || error.code === "UNAVAILABLE") return "wait";
  if (code.startsWith("AUTH_")) return "secret";
  if (code.startsWith("DEVICE_AUTH_NONCE") || code === "DEVICE_AUTH_SIGNATURE_EXPIRED") return "wait";
  return "fatal";
}

export class Gateway extends EventTarget {
  /**
   * `url`: where the WebSocket lives. `identity`: of this device, or nothing. `secrets()` gives `{token, deviceToken}`.
   * Events: `state` (detail `{state, …}`), `hello`, `event` (`{event, payload}`), `gap`.
   */
  constructor({ url, identity, secrets, version }) {
    super();
    Object.assign(this, { url, identity, secrets, version });
    this.attempt = 0;
    this.waiting = new Map();
    this.socket = undefined;
    this.ready = false;
    this.useDeviceToken = false;
    window.addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.hurry());
  }

  /** Connect now, whatever was planned. */
  connect() {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.drop(4000, "reconnect");
    this.tell("connecting", { attempt: this.attempt });
    const socket = new WebSocket(this.url);
    this.socket = socket;
    this.lastSeq = undefined;
    this.refusal = undefined;
    this.handshakeTimer = setTimeout(() => socket.close(4008, "no handshake"), HANDSHAKE_MS_MAX);
    socket.onmessage = (message) => socket === this.socket && this.receive(message.data);
    socket.onclose = (close) => socket === this.socket && this.closed(close);
  }

  /** Try at once if a try is only waiting for its time. */
  hurry() {
    if (this.timer !== undefined && !this.socket) {
      this.attempt = 0;
      this.connect();
    }
  }

  /** Ask; the promise gives the payload. */
  request(method, params = {}, { timeoutMs = REQUEST_MS_MAX } = {}) {
    if (!this.ready) return Promise.reject(new RequestError("not connected", { retryable: true, lost: true }));
    return this.ask(method, params, timeoutMs);
  }

  ask(method, params, timeoutMs) {
    const id = newId();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(id);
        reject(new RequestError(`${method}: no answer in ${timeoutMs / 1000} s`, { retryable: true, lost: true }));
      }, timeoutMs);
      this.waiting.set(id, { resolve, reject, timer });
      this.socket.send(JSON.stringify({ type: "req", id, method, params }));
    });
  }

  receive(data) {
    this.heard = Date.now();
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return;
    }
    if (frame.type === "res") this.answered(frame);
    else if (frame.type === "event") this.happened(frame);
  }

  answered({ id, ok, payload, error }) {
    const waiting = this.waiting.get(id);
    if (!waiting) return;
    this.waiting.delete(id);
    clearTimeout(waiting.timer);
    if (ok) waiting.resolve(payload);
    else waiting.reject(new RequestError(error?.message ?? "refused", error ?? {}));
  }

  happened({ event, payload, seq }) {
    if (event === "connect.challenge") {
      void this.shakeHands(payload ?? {});
      return;
    }
    if (typeof seq === "number") {
      if (this.lastSeq !== undefined && seq !== this.lastSeq + 1) this.emit("gap", {});
      this.lastSeq = seq;
    }
    if (event === "shutdown") this.restartMs = payload?.restartExpectedMs ?? undefined;
    this.emit("event", { event, payload: payload ?? {} });
  }

  async shakeHands(challenge) {
    const socket = this.socket;
    try {
      const params = await this.connectParams(challenge);
      const hello = await this.ask("connect", params, HANDSHAKE_MS_MAX);
      if (socket === this.socket) this.welcomed(hello ?? {}, challenge);
    } catch (error) {
      if (socket !== this.socket) return;
      this.refusal = error.lost ? undefined : error;
      socket.close(4008, "connect failed");
    }
  }

  async connectParams({ nonce = "", ts = Date.now() }) {
    const client = {
      id: "openclaw-control-ui", mode: "webchat", version: this.version, platform: platformName(),
      instanceId: this.secrets().instanceId, timeZone: Intl.DateTimeFormat().resolvedOptions().timeZone,
    };
    const { token, deviceToken } = this.secrets();
    const auth = {};
    if (token && !this.useDeviceToken) Object.assign(auth, { token, password: token });
    else if (deviceToken) auth.deviceToken = deviceToken;
    const params = {
      minProtocol: PROTOCOL, maxProtocol: PROTOCOL, client, role: ROLE, scopes: SCOPES, caps: CAPS,
      locale: navigator.language, userAgent: navigator.userAgent,
    };
    if (Object.keys(auth).length) params.auth = auth;
    if (this.identity) {
      const signed = {
        deviceId: this.identity.id, client, role: ROLE, scopes: SCOPES, signedAt: ts, nonce,
        token: auth.token ?? auth.deviceToken,
      };
      const signature = await this.identity.sign(devicePayload(signed));
      params.device = { id: this.identity.id, publicKey: this.identity.publicKey, signature, signedAt: ts, nonce };
    }
    return params;
  }

  welcomed(hello, challenge) {
    clearTimeout(this.handshakeTimer);
    this.attempt = 0;
    this.ready = true;
    this.useDeviceToken = false;
    this.restartMs = undefined;
    const silence = 2 * (hello.policy?.tickIntervalMs ?? 30_000);
    this.watch = setInterval(() => {
      if (Date.now() - this.heard > silence) this.drop(4000, "tick timeout", true);
    }, 5_000);
    this.tell("connected", {});
    this.emit("hello", { hello, serverOffsetMs: (challenge.ts ?? Date.now()) - Date.now() });
  }

  /** Give the socket up without waiting for the other side; `again` plans the next try. */
  drop(code, reason, again = false) {
    const socket = this.socket;
    if (!socket) return;
    this.socket = undefined;
    socket.onclose = socket.onmessage = null;
    socket.close(code, reason);
    if (again) this.closed({ code: 1006, reason });
  }

  closed({ code, reason }) {
    clearTimeout(this.handshakeTimer);
    clearInterval(this.watch);
    this.socket = undefined;
    this.ready = false;
    for (const { reject, timer } of this.waiting.values()) {
      clearTimeout(timer);
      reject(new RequestError("the connection was lost", { retryable: true, lost: true }));
    }
    this.waiting.clear();
    if (this.refusal) this.refused(this.refusal, code);
    else this.retryIn(code === 1012 ? (this.restartMs ?? BACKOFF_FIRST_MS) : backoffMs(this.attempt), { code, reason });
  }

  refused(error) {
    const kind = refusalKind(error);
    const { token, deviceToken } = this.secrets();
    const otherSecret = kind === "secret" && token && deviceToken && !this.useDeviceToken;
    if (otherSecret && error.details?.canRetryWithDeviceToken) {
      this.useDeviceToken = true;
      this.connect();
      return;
    }
    this.useDeviceToken = false;
    if (kind === "wait") this.retryIn(error.retryAfterMs ?? backoffMs(this.attempt), { error });
    else if (kind === "pairing") this.retryIn(PAIRING_POLL_MS, { error, state: "pairing" });
    else this.tell("refused", { error, kind });
  }

  retryIn(ms, { state = "waiting", ...why }) {
    this.attempt += 1;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.timer = undefined;
      this.connect();
    }, ms);
    this.tell(state, { ...why, inMs: ms });
  }

  tell(state, detail) {
    this.emit("state", { state, ...detail });
  }

  emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

function platformName() {
  return navigator.userAgentData?.platform || navigator.platform || "web";
}
