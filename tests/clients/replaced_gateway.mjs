// The reference client stays connected while the gateway's program image is replaced in the middle of its run.
// Usage: node replaced_gateway.mjs <ws url> <token> <pid of the gateway> <its log>. Prints one JSON line of results.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { GatewayClient } from "@openclaw/gateway-client";
import { check4 } from "./frames4.mjs";
import { Events, newIdentity, publicKeyText, run, signText, textOf, within } from "./session.mjs";
import { Tap } from "./tap.mjs";

const tap = new Tap(check4).watchPackage();
/** Replacements, one after the other while the run goes on. */
const TIMES = 3;

function connect(url, token) {
  const seen = { events: new Events(), hellos: [], gaps: [], closes: [], errors: [] };
  const client = new GatewayClient({
    url, token, deviceIdentity: newIdentity(), clientVersion: "1.0.0", platform: "linux", minProtocol: 4, maxProtocol: 4,
    role: "operator", scopes: ["operator.admin", "operator.read", "operator.write"], mode: "cli", clientName: "cli",
    onHelloOk: (hello) => seen.hellos.push(hello), onEvent: (event) => seen.events.push(event),
    onGap: (gap) => seen.gaps.push(gap), onClose: (...why) => seen.closes.push(why),
    onConnectError: (error) => seen.errors.push(String(error)),
    hostDeps: {
      signDevicePayload: signText, publicKeyRawBase64UrlFromPem: publicKeyText,
      storeDeviceAuthToken: () => {}, loadDeviceAuthToken: () => null,
    },
  });
  client.start();
  return { client, ...seen };
}

async function until(what, condition) {
  const look = async () => {
    for (;;) {
      const found = await condition();
      if (found) return found;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  return within(what, look());
}

await run(async ([url, token, pid, log]) => {
  const { client, events, hellos, gaps, closes, errors } = connect(url, token);
  await until("hello", () => hellos.length > 0 || errors.length > 0);
  const runId = "over-the-restart";
  await client.request("chat.send", { sessionKey: "main", message: "count", idempotencyKey: runId });
  await events.chat(runId, "delta");
  const images = () => readFileSync(log, "utf8").split("[gateway] ready ms=").length - 1;
  for (let n = 1; n <= TIMES; n += 1) {
    process.kill(Number(pid), "SIGUSR1");
    // A question may be under way at the wrong moment: it is answered all the same.
    await until(`replacement ${n}`, async () => (await client.request("health", {})).ok && images() > n);
  }
  const cut = events.of("chat", runId).some((payload) => payload.state !== "delta");
  const final = (await events.chat(runId, "final", "error", "aborted")).payload;
  assert.equal(final.state, "final", JSON.stringify(final));
  const deltas = events.of("chat", runId).filter((payload) => payload.state === "delta");
  assert.equal(deltas.map((payload) => payload.deltaText).join(""), textOf(deltas.at(-1).message));
  assert.equal(textOf(final.message), textOf(deltas.at(-1).message));
  const numbers = events.of("agent", runId).map((payload) => payload.seq);
  assert.deepEqual(numbers, numbers.map((_, n) => n + 1), "events of a run are numbered without gaps");
  assert.deepEqual([hellos.length, closes, gaps, errors], [1, [], [], []]);
  const seqs = events.all.filter((event) => event.seq !== undefined).map((event) => event.seq);
  assert.deepEqual(seqs, seqs.map((_, n) => seqs[0] + n), "events of a connection are numbered without gaps");
  const answer = await client.request("chat.send", { sessionKey: "other", message: "again", idempotencyKey: "next" });
  assert.equal(answer.status, "started");
  await events.chat("next", "final");
  await client.stopAndWait();
  tap.verify();
  return { ok: true, frames: tap.frames, deltas: deltas.length, text: textOf(final.message), whileStreaming: !cut };
});
