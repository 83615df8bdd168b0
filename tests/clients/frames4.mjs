// Frames of wire protocol 4, checked with the schema that is published with the reference client.
import { readFileSync } from "node:fs";
import Ajv from "ajv";

const file = new URL("../protocol.schema.json", import.meta.resolve("@openclaw/gateway-protocol/version"));
const schema = JSON.parse(readFileSync(file, "utf8"));
const ajv = new Ajv({ strict: false, allErrors: true });
ajv.addFormat("uuid", /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i);
ajv.addSchema(schema, "protocol");

const HEALTH = "HelloOk/properties/snapshot/properties/health";
// The original's own agent events carry these keys besides those of its schema.
const AGENT_ROUTING = ["sessionKey", "agentId", "sessionId", "session"];
// Events whose payload the schema does not define.
const UNDEFINED = new Set(["connect.challenge", "heartbeat", "cron", "sessions.changed", "session.message", "presence"]);
const EVENTS = {
  agent: "AgentEvent", chat: "ChatEvent", tick: "TickEvent", shutdown: "ShutdownEvent", health: HEALTH,
  "device.pair.requested": "DevicePairRequestedEvent", "device.pair.resolved": "DevicePairResolvedEvent",
};
const RESULTS = { connect: "HelloOk", health: HEALTH };

function wrong(name, value) {
  const check = ajv.getSchema(`protocol#/definitions/${name}`);
  if (!check) throw new Error(`the published schema has no ${name}`);
  if (check(value)) return [];
  return check.errors.map((error) => `${name}${error.instancePath} ${error.message} ${JSON.stringify(error.params)}`);
}

function definitionOf(method) {
  const name = `${method.split(/[.-]/).map((part) => part[0].toUpperCase() + part.slice(1)).join("")}Result`;
  return RESULTS[method] ?? (name in schema.definitions ? name : undefined);
}

function ofEvent(frame) {
  const { event, payload } = frame;
  if (event === "presence") return payload.presence.flatMap((entry) => wrong("PresenceEntry", entry));
  if (event in EVENTS) {
    let value = payload;
    if (event === "agent") {
      value = Object.fromEntries(Object.entries(payload).filter(([key]) => !AGENT_ROUTING.includes(key)));
    }
    return wrong(EVENTS[event], value);
  }
  return UNDEFINED.has(event) ? [] : [`event ${event} has no check`];
}

/** What is wrong with a frame of the gateway; `method` is that of the request that a response answers. */
export function check4(frame, method) {
  const found = wrong("GatewayFrame", frame);
  if (frame.type === "event") return [...found, ...ofEvent(frame)];
  const definition = frame.ok && method && definitionOf(method);
  return definition ? [...found, ...wrong(definition, frame.payload)] : found;
}

/** Methods whose results the schema defines. */
export const isDefined = (method) => definitionOf(method) !== undefined;
