// The reference client against our gateway, wire protocol 4.
// Usage: node reference_client.mjs <ws url> <token>. Prints one JSON line of results.
import assert from "node:assert/strict";
import { GatewayClient } from "@openclaw/gateway-client";
import { check4 } from "./frames4.mjs";
import { Events, newIdentity, publicKeyText, run, signText, textOf, within } from "./session.mjs";
import { Tap } from "./tap.mjs";

const tap = new Tap(check4).watchPackage();
const SCOPES = ["operator.admin", "operator.read", "operator.write", "operator.approvals", "operator.pairing"];

function connect(url, options) {
  const events = new Events();
  const hellos = [];
  const tokens = [];
  const gaps = [];
  let failed;
  const helloNumber = (n) => within(`hello ${n}`, new Promise((resolve, reject) => {
    failed = reject;
    const look = () => (hellos.length >= n ? resolve(hellos[n - 1]) : setImmediate(look));
    look();
  }));
  const client = new GatewayClient({
    url, clientVersion: "1.0.0", platform: "linux", minProtocol: 4, maxProtocol: 4, role: "operator", scopes: SCOPES,
    onHelloOk: (hello) => hellos.push(hello), onEvent: (event) => events.push(event), onGap: (gap) => gaps.push(gap),
    onConnectError: (error) => failed?.(error),
    hostDeps: {
      signDevicePayload: signText,
      publicKeyRawBase64UrlFromPem: publicKeyText,
      storeDeviceAuthToken: (record) => tokens.push(record),
      loadDeviceAuthToken: () => options.stored ?? null,
    },
    ...options,
  });
  client.start();
  return { client, events, gaps, tokens, hello: helloNumber };
}

async function handshake(url, token, identity) {
  const session = connect(url, { token, deviceIdentity: identity, caps: ["tool-events"], mode: "cli", clientName: "cli" });
  const hello = await session.hello(1);
  assert.equal(hello.protocol, 4);
  assert.equal(hello.auth.role, "operator");
  assert.deepEqual(hello.auth.scopes, SCOPES);
  assert.equal(hello.policy.tickIntervalMs, 30_000);
  assert.equal(hello.snapshot.sessionDefaults.mainSessionKey, "agent:main:main");
  assert.ok(hello.snapshot.presence.some((entry) => entry.reason === "self"), "the gateway is present");
  assert.equal(hello.snapshot.health.ok, true);
  for (const method of ["chat.send", "agent", "sessions.list"]) assert.ok(hello.features.methods.includes(method), method);
  const [stored] = session.tokens;
  assert.equal(stored.token, hello.auth.deviceToken);
  assert.match(stored.token, /^[\w-]{43}$/);
  assert.equal(stored.deviceId, identity.deviceId);
  return { ...session, stored };
}

async function chat({ client, events }) {
  const runId = "reference-chat";
  const params = { sessionKey: "main", message: "one two three four", idempotencyKey: runId };
  const started = await client.request("chat.send", params);
  assert.deepEqual([started.runId, started.status], [runId, "started"]);
  const final = (await events.chat(runId, "final", "error", "aborted")).payload;
  assert.equal(final.state, "final", JSON.stringify(final));
  const deltas = events.of("chat", runId).filter((payload) => payload.state === "delta");
  assert.ok(deltas.length > 1, "the answer came in pieces");
  assert.equal(deltas.map((payload) => payload.deltaText).join(""), textOf(deltas.at(-1).message));
  assert.equal(textOf(final.message), textOf(deltas.at(-1).message));
  const numbers = events.of("agent", runId).map((payload) => payload.seq);
  assert.deepEqual(numbers, numbers.map((_, n) => n + 1), "events of a run are numbered without gaps");
  assert.equal((await client.request("chat.send", params)).status, "ok", "the same key starts nothing");
  const history = await client.request("chat.history", { sessionKey: "main", limit: 200 });
  assert.deepEqual(history.messages.map((message) => message.role), ["user", "assistant"]);
  const { sessions } = await client.request("sessions.list", { includeGlobal: true, includeUnknown: true, limit: 50 });
  assert.ok(sessions.some((row) => row.key === "agent:main:main"));
  const machine = await client.request("system.info", {});
  assert.ok(machine.machineName && machine.memoryTotalBytes > 0, JSON.stringify(machine));
  return deltas.length;
}

async function tools({ client, events }) {
  const runId = "reference-tool";
  await client.request("chat.send", { sessionKey: "main", message: "run: echo out-of-the-tool", idempotencyKey: runId });
  const final = (await events.chat(runId, "final")).payload;
  assert.match(textOf(final.message), /out-of-the-tool/);
  const calls = events.of("agent", runId).filter((payload) => payload.stream === "tool").map(({ data }) => data);
  assert.equal(calls[0].phase, "start");
  assert.equal(calls[0].args.command, "echo out-of-the-tool");
  assert.deepEqual([calls.at(-1).phase, calls.at(-1).isError], ["result", false]);
  assert.match(JSON.stringify(calls.at(-1).result), /out-of-the-tool/);
  assert.equal(new Set(calls.map((call) => call.toolCallId)).size, 1);
  return calls.map((call) => call.phase);
}

async function agent({ client }) {
  let accepted;
  const params = { message: "hi there", idempotencyKey: "reference-agent", sessionKey: "agent:main:other" };
  const done = await client.request("agent", params, { expectFinal: true, onAccepted: (payload) => { accepted = payload; } });
  assert.deepEqual([accepted.status, accepted.runId], ["accepted", "reference-agent"]);
  assert.equal(done.status, "ok");
  assert.match(done.result.payloads[0].text, /hi there/);
  const waited = await client.request("agent.wait", { runId: "reference-agent", timeoutMs: 1000 });
  assert.equal(waited.status, "ok");
  assert.ok(waited.endedAt >= waited.startedAt);
  return waited.status;
}

async function dropAndReturn(session) {
  const { client, events, gaps } = session;
  const runId = "reference-drop";
  await client.request("chat.send", { sessionKey: "main", message: "run: sleep 2", idempotencyKey: runId });
  await events.when("the tool starts", (e) => e.event === "agent" && e.payload.runId === runId && e.payload.data.phase === "start" && e.payload.stream === "tool");
  const before = tap.last;
  before.drop();
  const hello = await session.hello(2);
  assert.notEqual(tap.last, before);
  assert.ok(hello.snapshot.presence.length > 0 && hello.snapshot.health.ok && hello.snapshot.stateVersion.health > 0);
  const final = (await events.chat(runId, "final")).payload;
  assert.equal(final.state, "final");
  const first = tap.last.frames.find((frame) => frame.type === "event" && frame.event !== "connect.challenge");
  assert.equal(first.seq, 1, "a new connection counts its own events");
  assert.deepEqual(gaps, []);
  const history = await client.request("chat.history", { sessionKey: "main", limit: 200 });
  assert.ok(history.messages.some((message) => JSON.stringify(message).includes("sleep 2")));
}

async function abort({ client, events }) {
  const runId = "reference-abort";
  await client.request("chat.send", { sessionKey: "main", message: "run: sleep 30", idempotencyKey: runId });
  await events.when("the run starts", (e) => e.event === "agent" && e.payload.runId === runId);
  const answer = await client.request("chat.abort", { sessionKey: "main", runId });
  assert.deepEqual([answer.ok, answer.aborted, answer.runIds], [true, true, [runId]]);
  const end = (await events.chat(runId, "aborted", "final", "error")).payload;
  assert.deepEqual([end.state, end.stopReason], ["aborted", "rpc"]);
}

async function surface({ client }) {
  const asked = ["health", "status", "agents.list", "models.list", "system-presence", "config.get", "device.pair.list", "channels.status"];
  for (const method of asked) await client.request(method, {});
  await assert.rejects(client.request("no.such.method", {}), (error) => {
    assert.deepEqual([error.gatewayCode, error.message], ["INVALID_REQUEST", "unknown method: no.such.method"]);
    return true;
  });
  await assert.rejects(client.request("chat.send", { sessionKey: "main" }), /invalid chat\.send params/);
  return asked.length;
}

async function refusals(url, token, identity, stored) {
  const known = connect(url, { deviceIdentity: identity, stored, mode: "cli", clientName: "cli" });
  assert.equal((await known.hello(1)).auth.role, "operator", "the device token alone is enough");
  known.client.stop();
  const wrong = connect(url, { token: "wrong", deviceIdentity: newIdentity() });
  await assert.rejects(wrong.hello(1), (error) => {
    assert.equal(error.details.code, "AUTH_TOKEN_MISMATCH");
    assert.match(error.message, /^unauthorized: gateway token mismatch/);
    return true;
  });
  wrong.client.stop();
  const reader = connect(url, { token, deviceIdentity: null, scopes: ["operator.read"] });
  await reader.hello(1);
  await assert.rejects(reader.client.request("chat.send", { sessionKey: "main", message: "x", idempotencyKey: "no" }), (error) => {
    assert.deepEqual([error.gatewayCode, error.message], ["FORBIDDEN", "missing scope: operator.write"]);
    assert.equal(error.details.code, "MISSING_SCOPE");
    return true;
  });
  reader.client.stop();
}

await run(async ([url, token]) => {
  const identity = newIdentity();
  const session = await handshake(url, token, identity);
  const deltas = await chat(session);
  const toolPhases = await tools(session);
  const waited = await agent(session);
  await dropAndReturn(session);
  await abort(session);
  const methods = await surface(session);
  await refusals(url, token, identity, session.stored);
  await session.client.stopAndWait();
  tap.verify();
  return { ok: true, frames: tap.frames, deltas, toolPhases, waited, methods };
});
