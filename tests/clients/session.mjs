// What the scripts share: a device identity, waiting for events, one line of results.
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, sign } from "node:crypto";

/** Longest wait for anything: a run with a tool takes about a second, on a busy machine a few. */
const PATIENCE_MS = 40_000;

export function newIdentity() {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const publicKeyPem = publicKey.export({ type: "spki", format: "pem" });
  const deviceId = createHash("sha256").update(rawKey(publicKeyPem)).digest("hex");
  return { deviceId, publicKeyPem, privateKeyPem: privateKey.export({ type: "pkcs8", format: "pem" }) };
}

function rawKey(publicKeyPem) {
  return createPublicKey(publicKeyPem).export({ type: "spki", format: "der" }).subarray(-32);
}

export const publicKeyText = (publicKeyPem) => rawKey(publicKeyPem).toString("base64url");
export const signText = (privateKeyPem, text) => sign(null, Buffer.from(text), createPrivateKey(privateKeyPem)).toString("base64url");

/** Events in the order of arrival, with waiting. */
export class Events {
  all = [];
  waiting = new Set();
  push(event) {
    this.all.push(event);
    for (const look of this.waiting) look(event);
  }
  /** The first event, past or future, for which `matches` holds. */
  async when(what, matches) {
    const found = this.all.find(matches);
    if (found) return found;
    return within(what, new Promise((resolve) => {
      const look = (event) => {
        if (!matches(event)) return;
        this.waiting.delete(look);
        resolve(event);
      };
      this.waiting.add(look);
    }));
  }
  chat(runId, ...states) {
    return this.when(`chat ${states} of ${runId}`, (e) => e.event === "chat" && e.payload.runId === runId && states.includes(e.payload.state));
  }
  of(name, runId) {
    return this.all.filter((e) => e.event === name && e.payload.runId === runId).map((e) => e.payload);
  }
}

export async function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`did not happen in ${PATIENCE_MS} ms: ${what}`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export const textOf = (message) => (message?.content ?? []).map((block) => block.text ?? "").join("");

/** Runs a script: prints its results as one JSON line, or says what failed and ends with 1. */
export async function run(script) {
  try {
    console.log(JSON.stringify(await script(process.argv.slice(2))));
    process.exit(0);
  } catch (error) {
    console.error(error?.stack ?? String(error));
    process.exit(1);
  }
}
