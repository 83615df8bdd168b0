// Wire protocol 3 against our gateway: a client that others wrote for it, then a bare session.
// Usage: node protocol3.mjs <ws url> <token> <directory for the client's identity>. Prints one JSON line of results.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { OpenClawClient } from "openclaw-node";
import { check3 } from "./frames3.mjs";
import { Events, newIdentity, publicKeyText, run, signText, textOf, within } from "./session.mjs";
import { Tap } from "./tap.mjs";

const tap = new Tap(check3).watchPlatform();
const SCOPES = ["operator.admin", "operator.read", "operator.write", "operator.approvals", "operator.pairing"];

/** A bare connection: the frames as they are. */
class Session {
  events = new Events();
  waiting = new Map();
  closed = new Promise((resolve) => { this.onClose = resolve; });
  constructor(url) {
    this.socket = new WebSocket(url);
    this.socket.addEventListener("message", ({ data }) => this.take(JSON.parse(data)));
    this.socket.addEventListener("close", ({ code, reason }) => this.onClose({ code, reason }));
  }
  take(frame) {
    if (frame.type === "event") this.events.push(frame);
    else this.waiting.get(frame.id)?.push(frame);
  }
  /** Sends a request; each call of the result waits for the next answer under its id. */
  send(method, params) {
    const id = randomUUID();
    const answers = new Events();
    this.waiting.set(id, answers);
    this.socket.send(JSON.stringify({ type: "req", id, method, ...(params && { params }) }));
    let read = 0;
    return async () => {
      const n = read++;
      await answers.when(`answer ${n + 1} to ${method}`, () => answers.all.length > n);
      return answers.all[n];
    };
  }
  async call(method, params) {
    const frame = await this.send(method, params)();
    assert.ok(frame.ok, `${method}: ${JSON.stringify(frame.error)}`);
    return frame.payload;
  }
  async refused(method, params) {
    const frame = await this.send(method, params)();
    assert.equal(frame.ok, false, `${method} should be refused`);
    return frame.error;
  }
  async challenge() {
    return (await this.events.when("the challenge", (e) => e.event === "connect.challenge")).payload;
  }
}

function params(token, more = {}) {
  return {
    minProtocol: 3, maxProtocol: 3, client: { id: "cli", version: "2026.2.26", platform: "linux", mode: "cli" },
    role: "operator", scopes: SCOPES, caps: [], auth: { token }, ...more,
  };
}

function signed(connect, identity, nonce, changes = {}) {
  const signedAt = changes.signedAt ?? Date.now();
  const fields = ["v3", identity.deviceId, connect.client.id, connect.client.mode, connect.role, connect.scopes.join(","), signedAt, connect.auth.token, nonce, connect.client.platform, ""];
  const device = { id: identity.deviceId, publicKey: publicKeyText(identity.publicKeyPem), signature: signText(identity.privateKeyPem, fields.join("|")), signedAt, nonce };
  return { ...connect, device: { ...device, ...changes } };
}

async function open(url, token, more) {
  const session = new Session(url);
  const { nonce } = await session.challenge();
  session.hello = await session.call("connect", signed(params(token, more), newIdentity(), nonce));
  return session;
}

async function written(url, token, directory) {
  const client = new OpenClawClient({ url, token, deviceIdentityPath: join(directory, "device.json"), autoReconnect: false });
  client.on("error", (error) => { throw error; });
  const hello = await within("hello", client.connect());
  assert.equal(hello.protocol, 3);
  assert.deepEqual(hello.auth.scopes, ["operator.read", "operator.write"]);
  let pieces = 0;
  let answer = "";
  for await (const piece of client.chat("say this again", { sessionKey: "main" })) {
    assert.notEqual(piece.type, "error", piece.text);
    pieces += 1;
    answer += piece.text;
  }
  assert.match(answer, /say this again/);
  assert.ok(pieces > 2, "the answer came in pieces");
  assert.equal((await client.health()).ok, true);
  const { messages } = await client.sessions.history("main", { limit: 10 });
  assert.deepEqual(messages.map((message) => message.role), ["user", "assistant"]);
  const { sessions } = await client.sessions.list();
  assert.ok(sessions.some((row) => row.key === "agent:main:main"));
  await client.disconnect();
  return pieces;
}

async function hello(session) {
  const { hello } = session;
  assert.equal(hello.protocol, 3);
  assert.deepEqual(hello.auth.scopes, [...SCOPES].sort());
  assert.match(hello.auth.deviceToken, /^[\w-]{43}$/);
  assert.equal(hello.policy.tickIntervalMs, 30_000);
  assert.equal("suspension" in hello.snapshot, false);
  await session.events.when("health after connecting", (e) => e.event === "health" && e.payload.ok && e.stateVersion.health > 0);
}

async function chat(session) {
  const runId = randomUUID();
  const started = await session.call("chat.send", { sessionKey: "agent:main:main", message: "one two three", idempotencyKey: runId });
  assert.deepEqual(started, { runId, status: "started" });
  const { payload } = await session.events.chat(runId, "final", "error");
  assert.match(textOf(payload.message), /one two three/);
  for (const delta of session.events.of("chat", runId).filter((p) => p.state === "delta")) {
    assert.ok(textOf(payload.message).startsWith(textOf(delta.message)), "a delta is the text so far");
  }
  const streams = session.events.of("agent", runId).map((p) => `${p.stream}:${p.data.phase ?? ""}`);
  assert.equal(streams[0], "lifecycle:start");
  assert.equal(streams.at(-1), "lifecycle:end");
  assert.deepEqual(new Set(streams), new Set(["lifecycle:start", "assistant:", "lifecycle:end"]), "what protocol 3 knows");
  const again = await session.call("chat.send", { sessionKey: "agent:main:main", message: "one two three", idempotencyKey: runId });
  assert.deepEqual(again, { runId, status: "ok" });
}

async function agentTwice(session) {
  const runId = randomUUID();
  const answer = session.send("agent", { message: "twice", idempotencyKey: runId, sessionKey: "main", deliver: false, timeout: 600 });
  const first = (await answer()).payload;
  assert.deepEqual([first.runId, first.status], [runId, "accepted"]);
  assert.equal(typeof first.acceptedAt, "number");
  const second = (await answer()).payload;
  assert.deepEqual([second.runId, second.status, second.summary], [runId, "ok", "completed"]);
  assert.match(second.result.payloads[0].text, /twice/);
  assert.equal(second.result.payloads[0].mediaUrl, null);
  assert.equal((await session.call("agent.wait", { runId, timeoutMs: 5000 })).status, "ok");
  assert.equal((await session.call("agent.wait", { runId: "never", timeoutMs: 20 })).status, "timeout");
}

async function abort(session) {
  const runId = randomUUID();
  await session.call("chat.send", { sessionKey: "main", message: "run: sleep 30", idempotencyKey: runId });
  await session.events.when("the run starts", (e) => e.event === "agent" && e.payload.runId === runId);
  const answer = await session.call("chat.abort", { sessionKey: "main", runId });
  assert.deepEqual(answer, { ok: true, aborted: true, runIds: [runId] });
  const { payload } = await session.events.chat(runId, "aborted", "final", "error");
  assert.deepEqual([payload.state, payload.stopReason], ["aborted", "rpc"]);
  assert.deepEqual(await session.call("chat.abort", { sessionKey: "main" }), { ok: true, aborted: false, runIds: [] });
}

async function tools(url, token) {
  const session = await open(url, token, { caps: ["tool-events"] });
  const runId = randomUUID();
  await session.call("chat.send", { sessionKey: "agent:main:tools", message: "run: echo three", idempotencyKey: runId });
  await session.events.chat(runId, "final");
  const calls = session.events.of("agent", runId).filter((p) => p.stream === "tool").map((p) => p.data);
  assert.deepEqual([calls[0].phase, calls[0].name, calls[0].args.command], ["start", "exec", "echo three"]);
  assert.deepEqual([calls.at(-1).phase, calls.at(-1).isError, "result" in calls.at(-1)], ["result", false, false]);
  session.socket.close();
}

async function errors(session) {
  const invalid = async (method, params) => {
    const error = await session.refused(method, params);
    assert.equal(error.code, "INVALID_REQUEST", JSON.stringify(error));
    return error.message;
  };
  assert.equal(await invalid("no.such"), "unknown method: no.such");
  assert.equal(await invalid("connect", {}), "connect is only valid as the first request");
  assert.match(await invalid("chat.send", {}), /^invalid chat\.send params: .*must have required property '\w+'/);
  assert.match(await invalid("agent.wait", { runId: 5 }), /^invalid agent\.wait params: /);
  session.socket.send("{not json");
  session.socket.send(JSON.stringify({ type: "req", method: "health" }));
  session.waiting.set("invalid", new Events());
  assert.equal((await session.call("health")).ok, true, "bad frames after hello close nothing");
  const { error } = await session.waiting.get("invalid").when("an answer without an id", () => true);
  assert.match(error.message, /^invalid request frame: /);
}

async function refusals(url, token) {
  const reader = await open(url, token, { scopes: ["operator.read"] });
  const error = await reader.refused("chat.send", { sessionKey: "main", message: "x", idempotencyKey: "x" });
  assert.deepEqual(error, { code: "INVALID_REQUEST", message: "missing scope: operator.write" });
  reader.socket.close();
  const cases = [
    ["unauthorized: gateway token mismatch", "AUTH_TOKEN_MISMATCH", (nonce) => signed(params("wrong"), newIdentity(), nonce)],
    ["device signature invalid", "DEVICE_AUTH_INVALID", (nonce) => signed(params(token), newIdentity(), nonce, { signature: "AAAA" })],
    ["device signature expired", "DEVICE_AUTH_INVALID", (nonce) => signed(params(token), newIdentity(), nonce, { signedAt: Date.now() - 200_000 })],
    ["device identity mismatch", "DEVICE_AUTH_INVALID", (nonce) => signed(params(token), newIdentity(), nonce, { id: newIdentity().deviceId })],
    ["device nonce mismatch", "DEVICE_AUTH_INVALID", () => signed(params(token), newIdentity(), randomUUID())],
    ["invalid role", undefined, () => params(token, { role: "boss" })],
    ["invalid connect params", undefined, () => params(token, { client: { id: "nobody", version: "1", platform: "linux", mode: "cli" } })],
  ];
  for (const [message, code, make] of cases) {
    const session = new Session(url);
    const { nonce } = await session.challenge();
    const refused = await session.refused("connect", make(nonce));
    assert.ok(refused.message.startsWith(message), `${message}: ${JSON.stringify(refused)}`);
    assert.equal(refused.details?.code, code, message);
    const { code: number, reason } = await within("the close", session.closed);
    assert.equal(number, 1008, message);
    assert.ok(refused.message.startsWith(reason) || reason.startsWith(refused.message), `${reason} / ${refused.message}`);
  }
  return cases.length;
}

await run(async ([url, token, directory]) => {
  const pieces = await written(url, token, directory);
  const session = await open(url, token);
  await hello(session);
  await chat(session);
  await agentTwice(session);
  await abort(session);
  await tools(url, token);
  await errors(session);
  const refused = await refusals(url, token);
  session.socket.close();
  tap.verify();
  return { ok: true, frames: tap.frames, pieces, refused };
});
