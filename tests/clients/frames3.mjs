// Frames of wire protocol 3, which has no published schema: checked with the shapes in data/protocol3-types.txt.
import { readFileSync } from "node:fs";

const EVENTS = {
  chat: "ChatEvent", agent: "AgentEvent", tick: "TickEvent", shutdown: "ShutdownEvent",
  "device.pair.requested": "DevicePairRequestedEvent", "device.pair.resolved": "DevicePairResolvedEvent",
};
const RESULTS = { connect: "HelloOk", health: "HealthSnapshot" };
const WORDS = { any: () => true, obj: isObject, str: (v) => typeof v === "string", bool: (v) => typeof v === "boolean", num: (v) => typeof v === "number", null: (v) => v === null, true: (v) => v === true };

const text = readFileSync(new URL("data/protocol3-types.txt", import.meta.url), "utf8");
const types = new Map(text.split("\n").filter((line) => /^\w+: /.test(line)).map((line) => {
  const at = line.indexOf(": ");
  return [line.slice(0, at), read(line.slice(at + 2))];
}));

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

// A type as a function: (value, place) => what is wrong.
function read(source) {
  let at = 0;
  const type = either();
  if (at !== source.length) throw new Error(`not understood: ${source.slice(at, at + 40)}`);
  return type;

  function take(sign) {
    if (!source.startsWith(sign, at)) return false;
    at += sign.length;
    return true;
  }
  function match(pattern) {
    pattern.lastIndex = at;
    const found = pattern.exec(source);
    if (!found) throw new Error(`not understood: ${source.slice(at, at + 40)}`);
    at = pattern.lastIndex;
    return found;
  }
  function either() {
    const all = [one()];
    while (take("|")) all.push(one());
    if (all.length === 1) return all[0];
    return (value, place) => {
      const results = all.map((type) => type(value, place));
      return results.some((found) => found.length === 0) ? [] : [`${place} is none of ${all.length} kinds: ${JSON.stringify(value)?.slice(0, 200)}`];
    };
  }
  function one() {
    if (take("[")) {
      const item = either();
      take("]");
      return (value, place) => Array.isArray(value) ? value.flatMap((v, n) => item(v, `${place}/${n}`)) : [`${place} must be an array`];
    }
    if (take("{…}")) return plain(isObject, "an object");
    if (take("{")) return object();
    if (source[at] === '"' || /\d/.test(source[at])) {
      const literal = JSON.parse(match(/"[^"]*"|\d+/y)[0]);
      return plain((value) => value === literal, JSON.stringify(literal));
    }
    const [, word, least, most, filled] = match(/([a-z]+)(?:>=(\d+))?(?:<=(\d+))?(!)?/y);
    if (word === "int") return plain((v) => Number.isInteger(v) && v >= Number(least ?? -Infinity) && v <= Number(most ?? Infinity), "an integer");
    if (!(word in WORDS)) throw new Error(`unknown type ${word}`);
    return plain((value) => WORDS[word](value) && !(filled && value === ""), `${word}${filled ?? ""}`);
  }
  function plain(holds, name) {
    return (value, place) => holds(value) ? [] : [`${place} must be ${name}, is ${JSON.stringify(value)?.slice(0, 80)}`];
  }
  function object() {
    const fields = new Map();
    while (!take("}")) {
      const [, name, optional] = match(/(\w+)(\?)?:/y);
      fields.set(name, { type: either(), optional: optional === "?" });
      take(", ");
    }
    const open = take("+");
    return (value, place) => {
      if (!isObject(value)) return [`${place} must be an object`];
      const extra = open ? [] : Object.keys(value).filter((key) => !fields.has(key)).map((key) => `${place} has the unknown key ${key}`);
      const inside = [...fields].flatMap(([name, { type, optional }]) => {
        if (!(name in value)) return optional ? [] : [`${place} lacks ${name}`];
        return type(value[name], `${place}/${name}`);
      });
      return [...extra, ...inside];
    };
  }
}

function wrong(name, value) {
  return types.get(name)(value, name);
}

function definitionOf(method) {
  const name = `${method.split(/[.-]/).map((part) => part[0].toUpperCase() + part.slice(1)).join("")}Result`;
  return RESULTS[method] ?? (types.has(name) ? name : undefined);
}

function ofEvent({ event, payload }) {
  if (event === "presence") return payload.presence.flatMap((entry) => wrong("PresenceEntry", entry));
  if (event === "agent") {
    const { sessionKey, ...rest } = payload; // recorded of the original besides its schema
    return wrong("AgentEvent", rest);
  }
  return event in EVENTS ? wrong(EVENTS[event], payload) : [];
}

/** What is wrong with a frame of the gateway; `method` is that of the request that a response answers. */
export function check3(frame, method) {
  const found = wrong("GatewayFrame", frame);
  if (frame.type === "event") return [...found, ...ofEvent(frame)];
  const definition = frame.ok && method && definitionOf(method);
  return definition ? [...found, ...wrong(definition, frame.payload)] : found;
}
