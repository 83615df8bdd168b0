// What a session looks like: its history as the gateway tells it, the runs that are going on, the messages on their
// way. Pure: no DOM, no network, no clock.
//
// A group is a message, or all that one run said and did: `{key, role, ts, parts, state?}`. A part is
// `{id, type: text|thinking|tool|note|error, …}`. History and live events give the same keys and ids, so that a view
// can keep its nodes when the history replaces what was streamed.

/** Runs of one session that are remembered while they are not yet in the history. */
const RUNS_MAX = 64;
/** Ended runs without a text of which the answer to `chat.send` may still be on its way. */
const SILENT_MAX = 64;

/** Text of a message's or a tool result's content. */
export function textOf(content) {
  if (typeof content === "string") return content;
  if (Array.isArray(content)) {
    return content.map((block) => (typeof block === "string" ? block : block?.type === "text" ? (block.text ?? "") : "")).filter(Boolean).join("\n\n");
  }
  if (content && typeof content === "object") {
    if (content.content !== undefined) return textOf(content.content);
    if (typeof content.text === "string") return content.text;
    return JSON.stringify(content, null, 2);
  }
  return content === undefined || content === null ? "" : String(content);
}

function runOfUser(message) {
  const key = message.idempotencyKey ?? message.__openclaw?.idempotencyKey;
  return typeof key === "string" ? key.replace(/:user$/, "") : undefined;
}

/** Turn `chat.history` messages into groups. */
export function groupsOf(messages) {
  const groups = [];
  const keys = new Map();
  const open = (key, role, message) => {
    const count = keys.get(key) ?? 0;
    keys.set(key, count + 1);
    const group = { key: count ? `${key}#${count}` : key, role, ts: message.timestamp, parts: [], run: message.__openclaw?.runId };
    groups.push(group);
    return group;
  };
  messages.forEach((message, index) => {
    const id = message.__openclaw?.id ?? message.id ?? `n${index}`;
    if (message.role === "user") {
      const run = runOfUser(message);
      const group = open(run ? `user:${run}` : `msg:${id}`, "user", message);
      group.parts = userParts(message.content);
    } else if (message.role === "assistant" || message.role === "toolResult" || message.role === "tool") {
      const run = message.__openclaw?.runId;
      const last = groups.at(-1);
      const goesOn = last?.role === "assistant" && last.run === run;
      const group = goesOn ? last : open(run ? `run:${run}` : `msg:${id}`, "assistant", message);
      if (message.role === "assistant") addAssistant(group, message);
      else addResult(group, message);
    } else {
      open(`msg:${id}`, "note", message).parts.push({ id: "note:0", type: "note", text: textOf(message.content) });
    }
  });
  return groups;
}

function userParts(content) {
  const parts = [];
  const text = textOf(content);
  if (text) parts.push({ id: "text:0", type: "text", text });
  const images = Array.isArray(content) ? content.filter((b) => b?.type === "image").length : 0;
  if (images) parts.push({ id: "note:0", type: "note", text: images === 1 ? "1 image" : `${images} images` });
  return parts;
}

function nextId(parts, type) {
  return `${type}:${parts.filter((p) => p.type === type).length}`;
}

function addAssistant(group, message) {
  const { parts } = group;
  const content = Array.isArray(message.content) ? message.content : [{ type: "text", text: textOf(message.content) }];
  for (const block of content) {
    if (block?.type === "text" && block.text?.trim()) parts.push({ id: nextId(parts, "text"), type: "text", text: block.text });
    else if (block?.type === "thinking" && block.thinking?.trim()) {
      parts.push({ id: nextId(parts, "thinking"), type: "thinking", text: block.thinking });
    } else if (block?.type === "toolCall") {
      parts.push({ id: `tool:${block.id}`, type: "tool", name: block.name, args: block.arguments, status: "open" });
    }
  }
  if (message.stopReason === "aborted") parts.push({ id: nextId(parts, "note"), type: "note", text: "Stopped" });
  else if (message.errorMessage) parts.push({ id: nextId(parts, "error"), type: "error", text: message.errorMessage });
  if (message.model) group.model = message.provider ? `${message.provider}/${message.model}` : message.model;
}

function addResult(group, message) {
  const id = `tool:${message.toolCallId}`;
  const done = { status: message.isError ? "failed" : "done", result: textOf(message.content) };
  const at = group.parts.findIndex((p) => p.id === id);
  if (at >= 0) group.parts[at] = { ...group.parts[at], ...done };
  else group.parts.push({ id, type: "tool", name: message.toolName ?? "tool", ...done });
}

export class Conversation {
  constructor(sessionKey) {
    this.sessionKey = sessionKey;
    this.history = [];
    this.loaded = false;
    this.runs = new Map();
    this.silent = new Set();
    this.hasEarlier = false;
  }

  /** Replace the history. Runs that are over and stand in it are forgotten. */
  setHistory(messages, { hasEarlier = false } = {}) {
    this.history = groupsOf(messages);
    this.hasEarlier = hasEarlier;
    this.loaded = true;
    const keys = new Set(this.history.map((g) => g.key));
    for (const [id, run] of this.runs) {
      if (run.done && keys.has(`run:${id}`)) this.runs.delete(id);
    }
  }

  /** A new connection: what was going on is told anew. */
  forgetLive() {
    for (const [id, run] of this.runs) if (!run.done) this.runs.delete(id);
  }

  /** The gateway took a message: its run begins, unless its end was heard first. */
  begin(runId, ts) {
    if (!this.silent.has(runId)) this.run(runId, ts);
  }

  get active() {
    return [...this.runs.values()].filter((run) => !run.done);
  }

  run(id, ts) {
    let run = this.runs.get(id);
    if (!run) {
      run = { id, ts, parts: [], done: false, whole: false };
      this.runs.set(id, run);
      if (this.runs.size > RUNS_MAX) this.runs.delete(this.runs.keys().next().value);
    }
    return run;
  }

  /** An `agent` event of this session. */
  onAgent({ runId, stream, data = {}, ts }) {
    if (this.runs.get(runId)?.done) return;
    const run = this.run(runId, ts);
    if (stream === "assistant" && data.text) {
      run.whole = true;
      liveText(run, "text", data.text, data.itemId);
    } else if (stream === "thinking" && data.text) liveText(run, "thinking", data.text, data.itemId);
    else if (stream === "tool") liveTool(run, data);
  }

  /** A `chat` event of this session. Says what it ended in: `final`, `aborted`, `error`, or nothing. */
  onChat({ runId, state, message, errorMessage, seq }) {
    if (state === "status") return undefined;
    if (this.runs.get(runId)?.done) return undefined;
    const known = this.runs.get(runId);
    if (state === "delta") {
      const run = this.run(runId, message?.timestamp);
      if (!run.whole) liveText(run, "text", textOf(message?.content), "chat");
      return undefined;
    }
    const text = textOf(message?.content);
    if (state === "final" && !text && !known?.parts.length) {
      // Silent, or waiting behind another run and told of under another id.
      this.runs.delete(runId);
      this.silent.add(runId);
      if (this.silent.size > SILENT_MAX) this.silent.delete(this.silent.values().next().value);
      return state;
    }
    const run = this.run(runId, message?.timestamp);
    run.done = true;
    run.injected = seq === 0;
    if (text && !run.parts.some((p) => p.type === "text")) run.parts.push({ id: "text:0", type: "text", text });
    run.parts = run.parts.map((p) => (p.type === "tool" && p.status === "running" ? { ...p, status: "open" } : p));
    if (state === "aborted") run.parts.push({ id: nextId(run.parts, "note"), type: "note", text: "Stopped" });
    if (state === "error") run.parts.push({ id: nextId(run.parts, "error"), type: "error", text: errorMessage ?? "The run failed." });
    return state;
  }

  /** Everything in order. `outgoing`: messages on their way, `[{id, text, at, state, problem?}]`. */
  groups(outgoing = []) {
    const list = [...this.history];
    const at = new Map(list.map((group, index) => [group.key, index]));
    const extra = [];
    for (const out of outgoing) {
      if (at.has(`user:${out.id}`)) continue;
      extra.push({ key: `user:${out.id}`, role: "user", ts: out.at, state: out.state, problem: out.problem, out, parts: [{ id: "text:0", type: "text", text: out.text }] });
    }
    for (const run of this.runs.values()) {
      const key = `run:${run.id}`;
      const known = at.get(key);
      if (known !== undefined) list[known] = { ...list[known], parts: merged(list[known].parts, run), live: !run.done };
      else extra.push({ key, role: "assistant", ts: run.ts, parts: [...run.parts], live: !run.done });
    }
    return placed(list, extra);
  }
}

function liveText(run, type, text, item) {
  const same = run.parts.findLast((p) => p.type === type);
  const goesOn = same && (item !== undefined ? same.item === item : run.parts.at(-1) === same);
  if (goesOn) run.parts[run.parts.indexOf(same)] = { ...same, text };
  else if (text) run.parts.push({ id: nextId(run.parts, type), type, text, item });
}

function liveTool(run, data) {
  const id = `tool:${data.toolCallId}`;
  let at = run.parts.findIndex((p) => p.id === id);
  if (at < 0) {
    run.parts.push({ id, type: "tool", name: data.name ?? "tool", args: data.args, status: "running" });
    at = run.parts.length - 1;
  }
  const part = { ...run.parts[at] };
  if (data.phase === "update" && data.partialResult !== undefined) part.result = textOf(data.partialResult);
  if (data.phase === "result") {
    part.status = data.isError ? "failed" : "done";
    if (data.result !== undefined) part.result = textOf(data.result);
    if (data.meta && !part.args) part.meta = data.meta;
  }
  run.parts[at] = part;
}

/** What the history has of a run that goes on, and what was heard of it beyond that. */
function merged(kept, run) {
  const parts = kept.map((p) => (p.type === "tool" && p.status === "open" && !run.done ? { ...p, status: "running" } : p));
  for (const part of run.parts) {
    if (part.type === "tool") {
      const at = parts.findIndex((p) => p.id === part.id);
      if (at < 0) parts.push(part);
      else if (parts[at].status === "running" || parts[at].status === "open") parts[at] = { ...parts[at], ...part, args: parts[at].args ?? part.args };
    } else if (!parts.some((p) => p.type === part.type && p.text.trim().startsWith(part.text.trim()))) {
      parts.push({ ...part, id: nextId(parts, part.type) });
    }
  }
  return parts;
}

/** Put groups that the history lacks where their time is; those that go on come last. */
function placed(list, extra) {
  const late = [];
  for (const group of extra.sort((a, b) => (a.ts ?? Infinity) - (b.ts ?? Infinity))) {
    let at = list.length;
    while (at > 0 && !group.live && (list[at - 1].ts ?? 0) > (group.ts ?? Infinity)) at -= 1;
    if (at === list.length) late.push(group);
    else list.splice(at, 0, group);
  }
  // A message stands before the run that answers it, whatever the clocks say.
  for (const group of late) {
    const answer = group.role === "user" ? list.findIndex((g) => g.key === `run:${group.key.slice(5)}`) : -1;
    if (answer >= 0) list.splice(answer, 0, group);
    else list.push(group);
  }
  return list;
}
