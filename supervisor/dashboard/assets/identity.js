// This browser as a device: an Ed25519 key that cannot be exported, kept in IndexedDB, and the signature over the
// challenge of the handshake (wire protocol 4, device payload v3).

const DATABASE = "openclaw-page";
const STORE = "device";
const KEY = "identity-v1";

/** Why this browser cannot prove a device, in words for the person in front of it. */
export class NoIdentity extends Error {}

const encoder = new TextEncoder();

function base64url(bytes) {
  let binary = "";
  for (const byte of new Uint8Array(bytes)) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function hex(bytes) {
  return Array.from(new Uint8Array(bytes), (b) => b.toString(16).padStart(2, "0")).join("");
}

function database() {
  return new Promise((resolve, reject) => {
    const open = indexedDB.open(DATABASE, 1);
    open.onupgradeneeded = () => open.result.createObjectStore(STORE);
    open.onsuccess = () => resolve(open.result);
    open.onerror = () => reject(open.error);
    open.onblocked = () => reject(new Error("the key store is blocked by another page"));
  });
}

function transact(db, mode, act) {
  return new Promise((resolve, reject) => {
    const transaction = db.transaction(STORE, mode);
    const request = act(transaction.objectStore(STORE));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

async function stored() {
  const db = await database();
  try {
    return await transact(db, "readonly", (s) => s.get(KEY));
  } finally {
    db.close();
  }
}

/** Keep the pair, unless another tab was first: the pair that counts is returned. */
async function keep(pair) {
  const db = await database();
  try {
    await transact(db, "readwrite", (s) => s.add(pair, KEY)).catch(() => undefined);
    return (await transact(db, "readonly", (s) => s.get(KEY))) ?? pair;
  } finally {
    db.close();
  }
}

async function makePair() {
  try {
    return await crypto.subtle.generateKey({ name: "Ed25519" }, false, ["sign", "verify"]);
  } catch {
    throw new NoIdentity("This browser has no Ed25519 keys. Chrome 137, Firefox 129, Safari 17 and later have them.");
  }
}

/** Load or make the identity: `{id, publicKey, sign(text)}`. */
export async function loadIdentity() {
  if (!globalThis.crypto?.subtle) {
    throw new NoIdentity(
      "Browsers keep keys only for https:// and for localhost. Open this page on the gateway's own machine, through a " +
      "tunnel (ssh -L 18789:127.0.0.1:18789 …, then http://localhost:18789/), or behind HTTPS.",
    );
  }
  let pair;
  try {
    pair = (await stored()) ?? (await keep(await makePair()));
  } catch (error) {
    if (error instanceof NoIdentity) throw error;
    // A private window without a database: a key for this load only.
    pair = await makePair();
  }
  const raw = await crypto.subtle.exportKey("raw", pair.publicKey);
  return {
    id: hex(await crypto.subtle.digest("SHA-256", raw)),
    publicKey: base64url(raw),
    sign: async (text) => base64url(await crypto.subtle.sign("Ed25519", pair.privateKey, encoder.encode(text))),
  };
}

/** The line that the device signs. Fields are joined by `|`; platform and family are trimmed and in lower case. */
export function devicePayload({ deviceId, client, role, scopes, signedAt, token, nonce }) {
  const plain = (text) => (text ?? "").trim().replace(/[A-Z]/g, (c) => c.toLowerCase());
  return [
    "v3", deviceId, client.id, client.mode, role, scopes.join(","), signedAt, token ?? "", nonce,
    plain(client.platform), plain(client.deviceFamily),
  ].join("|");
}
