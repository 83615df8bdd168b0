// The page's pure parts: reading Markdown, putting a conversation together, deciding about connections.
// Usage: node --test page_rules.mjs. Needs no packages, no browser, no gateway.
import assert from "node:assert/strict";
import { test } from "node:test";

const assets = new URL("../../supervisor/dashboard/assets/", import.meta.url);
const load = (name) => import(new URL(name, assets));
const { blocks, safeHref, spans } = await load("markdown.js");
const { Conversation, groupsOf, textOf } = await load("conversation.js");
const { RequestError, backoffMs, refusalKind } = await load("gateway.js");
const { devicePayload } = await load("identity.js");
const { takeFromAddress } = await load("store.js");
const { isShown, restored } = await load("outbox.js");
const { ageText, memoryText, problemsOf, toneOf } = await load("workers.js");
const { titleOf } = await load("sessions.js");
const { toolSummary } = await load("transcript.js");

const kinds = (text) => blocks(text).map((b) => b.kind);

test("blocks are told apart", () => {
  assert.deepEqual(kinds("# a\n\ntext\nmore\n\n- x\n- y\n\n1. z\n\n> q\n\n---\n\n```js\ncode\n```\n\n|a|b|\n|-|-|\n|1|2|"),
    ["heading", "paragraph", "list", "list", "quote", "rule", "code", "table"]);
});

test("an answer that is still coming reads as far as it is", () => {
  const [code] = blocks("```js\nlet a = 1;\n# not a heading");
  assert.deepEqual([code.kind, code.lang, code.text], ["code", "js", "let a = 1;\n# not a heading"]);
  assert.deepEqual(spans("**bold"), ["**bold"]);
  assert.deepEqual(kinds("| a | b |"), ["paragraph"]);
});

test("growing text keeps the source of finished blocks", () => {
  const whole = "first *one*\n\n- a\n- b\n\n```\nx\n\ny\n```\nlast";
  const done = blocks(whole).map((b) => b.source);
  const cut = blocks(whole.slice(0, -2)).map((b) => b.source);
  assert.deepEqual(cut.slice(0, -1), done.slice(0, -1));
});

test("lists nest and carry code", () => {
  const [list] = blocks("- a\n  - b\n    - c\n- d\n\n  ```sh\n  ls\n  ```\n- [x] e");
  assert.equal(list.items.length, 3);
  assert.equal(list.items[0].blocks[1].items[0].blocks[1].items[0].blocks[0].text, "c");
  assert.deepEqual(list.items[1].blocks.map((b) => [b.kind, b.text]), [["paragraph", "d"], ["code", "ls"]]);
  assert.equal(list.items[2].checked, true);
});

test("spans", () => {
  const shape = (list) => list.map((s) => (typeof s === "string" ? s : [s.kind, s.text ?? s.href ?? shape(s.spans)]));
  assert.deepEqual(shape(spans("a **b *c*** `d*` ~~e~~ \\*f\\*")),
    ["a ", ["strong", ["b ", ["em", ["c"]]]], " ", ["code", "d*"], " ", ["strike", ["e"]], " *f*"]);
  assert.deepEqual(shape(spans("snake_case_name 2*3*4")).join(""), "snake_case_name 2*3*4");
  assert.deepEqual(shape(spans("see (https://a.b/c_(d)). [x](http://y.z \"t\")")),
    ["see (", ["link", "https://a.b/c_(d)"], "). ", ["link", "http://y.z"]]);
});

test("only http and https addresses are followed", () => {
  assert.equal(safeHref("https://a.b/c"), "https://a.b/c");
  for (const bad of ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "/relative", "//a.b", " java\nscript:x", "vbscript:x"]) {
    assert.equal(safeHref(bad), undefined, bad);
  }
});

test("odd text neither throws nor takes long", () => {
  const began = performance.now();
  for (const piece of ["*", "_", "[", "`", "**a", "[a](", "<http://", "> ", "- ", "|", "~~", "![", "\\", "1. ", "```\n"]) {
    blocks(piece.repeat(2000));
    spans(piece.repeat(2000));
  }
  assert.ok(performance.now() - began < 5000, `${performance.now() - began} ms`);
});

const user = (run, text, ts) => ({ role: "user", content: text, timestamp: ts, idempotencyKey: `${run}:user`, __openclaw: { id: `u-${run}` } });
const said = (run, content, ts, more = {}) => ({ role: "assistant", content, timestamp: ts, __openclaw: { id: `a-${run}-${ts}`, runId: run }, ...more });
const t = (text) => ({ type: "text", text });

test("history: one group per run, results beside their calls", () => {
  const groups = groupsOf([
    user("r1", "go", 1),
    said("r1", [{ type: "thinking", thinking: "hm" }, t("look"), { type: "toolCall", id: "c1", name: "exec", arguments: { command: "ls" } }], 2),
    { role: "toolResult", toolCallId: "c1", toolName: "exec", content: [t("out")], isError: true, timestamp: 3, __openclaw: { runId: "r1" } },
    said("r1", [t("done")], 4),
    { role: "system", content: [t("Compaction")], timestamp: 5, __openclaw: { id: "k" } },
  ]);
  assert.deepEqual(groups.map((g) => g.key), ["user:r1", "run:r1", "msg:k"]);
  assert.deepEqual(groups[1].parts.map((p) => p.id), ["thinking:0", "text:0", "tool:c1", "text:1"]);
  assert.deepEqual([groups[1].parts[2].status, groups[1].parts[2].result], ["failed", "out"]);
});

const agent = (runId, stream, data) => ({ runId, stream, data, ts: 10 });

test("live events and the history that follows give the same parts", () => {
  const conversation = new Conversation("k");
  conversation.setHistory([]);
  conversation.begin("r1", 10);
  conversation.onAgent(agent("r1", "assistant", { text: "lo", delta: "lo", itemId: "r1:0" }));
  conversation.onAgent(agent("r1", "assistant", { text: "look", delta: "ok", itemId: "r1:0" }));
  conversation.onAgent(agent("r1", "tool", { phase: "start", name: "exec", toolCallId: "c1", args: { command: "ls" } }));
  assert.equal(conversation.groups()[0].parts[1].status, "running");
  conversation.onAgent(agent("r1", "tool", { phase: "result", name: "exec", toolCallId: "c1", isError: false, result: { content: [t("out")] } }));
  conversation.onAgent(agent("r1", "assistant", { text: "done", delta: "done", itemId: "r1:1" }));
  conversation.onChat({ runId: "r1", state: "delta", message: { content: [t("look\n\ndone")] } });
  assert.equal(conversation.onChat({ runId: "r1", state: "final", seq: 9, message: { content: [t("look\n\ndone")], timestamp: 11 } }), "final");
  const live = conversation.groups()[0].parts;
  conversation.setHistory([
    user("r1", "go", 1), said("r1", [t("look"), { type: "toolCall", id: "c1", name: "exec", arguments: { command: "ls" } }], 2),
    { role: "toolResult", toolCallId: "c1", toolName: "exec", content: [t("out")], timestamp: 3, __openclaw: { runId: "r1" } }, said("r1", [t("done")], 4),
  ]);
  const kept = conversation.groups()[1].parts;
  const plain = (parts) => parts.map(({ id, text, status, result }) => ({ id, text, status, result }));
  assert.deepEqual(plain(kept), plain(live));
  assert.equal(conversation.runs.size, 0);
});

test("a gateway that sends chat events only is enough", () => {
  const conversation = new Conversation("k");
  for (const text of ["a", "a b"]) conversation.onChat({ runId: "r", state: "delta", message: { content: [t(text)] } });
  assert.deepEqual(conversation.groups()[0].parts.map((p) => p.text), ["a b"]);
  conversation.onChat({ runId: "r", state: "final", seq: 3, message: { content: [t("a b c")] } });
  assert.equal(conversation.active.length, 0);
});

test("a page that comes in the middle of a run shows nothing twice", () => {
  const conversation = new Conversation("k");
  conversation.onAgent(agent("r1", "assistant", { text: "look", itemId: "r1:0" }));
  conversation.onAgent(agent("r1", "assistant", { text: "the ans", itemId: "r1:1" }));
  conversation.setHistory([user("r1", "go", 1), said("r1", [t("look"), { type: "toolCall", id: "c1", name: "exec", arguments: {} }], 2)]);
  const [, run] = conversation.groups();
  assert.deepEqual(run.parts.map((p) => p.text ?? p.status), ["look", "running", "the ans"]);
  assert.equal(run.live, true);
});

test("ends: aborted, failed, silent, queued", () => {
  const conversation = new Conversation("k");
  conversation.begin("a", 1);
  assert.equal(conversation.onChat({ runId: "a", state: "aborted", seq: 2, message: { content: [t("half")] } }), "aborted");
  assert.equal(conversation.onChat({ runId: "a", state: "error", seq: 3, errorMessage: "late" }), undefined);
  assert.deepEqual(conversation.groups()[0].parts.map((p) => p.text), ["half", "Stopped"]);
  conversation.begin("e", 5);
  conversation.onChat({ runId: "e", state: "error", seq: 1, errorMessage: "no key" });
  assert.deepEqual(conversation.groups()[1].parts.map((p) => [p.type, p.text]), [["error", "no key"]]);
  conversation.begin("q", 6);
  conversation.onChat({ runId: "q", state: "final", seq: 1 });
  assert.equal(conversation.groups().length, 2);
});

test("a message on its way stands before its answer and only once", () => {
  const conversation = new Conversation("k");
  conversation.setHistory([user("r0", "old", 1), said("r0", [t("old answer")], 2)]);
  conversation.begin("r1", 100);
  const out = [{ id: "r1", text: "new", at: 99, state: "taken" }];
  assert.deepEqual(conversation.groups(out).map((g) => g.key), ["user:r0", "run:r0", "user:r1", "run:r1"]);
  conversation.setHistory([user("r0", "old", 1), said("r0", [t("old answer")], 2), user("r1", "new", 99)]);
  assert.deepEqual(conversation.groups(out).map((g) => g.key), ["user:r0", "run:r0", "user:r1", "run:r1"]);
});

test("an end that is heard before the answer to its message begins nothing", () => {
  const conversation = new Conversation("k");
  conversation.begin("first", 1);
  assert.equal(conversation.onChat({ runId: "queued", state: "final", seq: 0 }), "final");
  conversation.begin("queued", 2);
  assert.deepEqual(conversation.active.map((run) => run.id), ["first"]);
  for (let n = 0; n < 1000; n += 1) conversation.onChat({ runId: `q${n}`, state: "final", seq: 0 });
  assert.ok(conversation.silent.size <= 64, "what is remembered has a bound");
});

test("a message waits for the history to show it, and not for one that only looks like it", () => {
  const history = groupsOf([user("r1", "a long question", 1000), user("merged", "[Queued]\n\nq", 9000)]);
  const own = new Set(["r1", "r2"]);
  assert.equal(isShown({ id: "r1", at: 1000, text: "a long question" }, history, own), true);
  assert.equal(isShown({ id: "r2", at: 1000, text: "question" }, history, own), false);
  assert.equal(isShown({ id: "r2", at: 1000, text: "q" }, history, own), true);
  assert.equal(isShown({ id: "r2", at: 900_000, text: "q" }, history, own), false);
  assert.equal(isShown({ id: "r2", at: 1000, text: "long" }, history, new Set()), false);
});

test("a reload sends again what was not taken and keeps what waits", () => {
  const kept = ["unsent", "sending", "failed", "taken", "queued", undefined].map((state, n) => ({ id: `${n}`, sessionKey: "k", text: "t", at: 1000, state }));
  assert.deepEqual(restored(kept, 2000).map((m) => m.state), ["unsent", "unsent", "unsent", "taken", "queued", "unsent"]);
  assert.deepEqual(restored(kept, 8e6).map((m) => m.id), ["0", "1", "2", "5"]);
});

test("texts of contents", () => {
  assert.equal(textOf("a"), "a");
  assert.equal(textOf([t("a"), { type: "image" }, t("b")]), "a\n\nb");
  assert.equal(textOf({ content: [t("a")], details: {} }), "a");
  assert.equal(textOf(undefined), "");
});

test("refusals lead to the right next step", () => {
  const kind = (code, details = {}, more = {}) => refusalKind(new RequestError("x", { code, details, ...more }));
  assert.equal(kind("INVALID_REQUEST", { code: "AUTH_TOKEN_MISSING" }), "secret");
  assert.equal(kind("INVALID_REQUEST", { code: "AUTH_RATE_LIMITED" }), "wait");
  assert.equal(kind("NOT_PAIRED", { code: "PAIRING_REQUIRED" }), "pairing");
  assert.equal(kind("INVALID_REQUEST", { code: "CONTROL_UI_DEVICE_IDENTITY_REQUIRED" }), "device");
  assert.equal(kind("UNAVAILABLE", {}, { retryable: true }), "wait");
  assert.equal(kind("INVALID_REQUEST", { code: "CONTROL_UI_ORIGIN_NOT_ALLOWED" }), "fatal");
});

test("waits grow and end", () => {
  const waits = Array.from({ length: 12 }, (_, n) => backoffMs(n, 1));
  assert.ok(waits.every((ms, n) => n === 0 || ms >= waits[n - 1]));
  assert.equal(waits[0], 400);
  assert.equal(waits.at(-1), 15_000);
});

test("the signed line", () => {
  const line = devicePayload({
    deviceId: "id", client: { id: "c", mode: "m", platform: " MacIntel " }, role: "operator", scopes: ["a", "b"], signedAt: 5, token: "t", nonce: "n",
  });
  assert.equal(line, "v3|id|c|m|operator|a,b|5|t|n|macintel|");
});

test("the token leaves the address at once", () => {
  const take = (address) => {
    const url = new URL(address);
    let shown = address;
    const taken = takeFromAddress(url, { replaceState: (_a, _b, to) => { shown = to; } });
    return [taken.token, taken.session, shown];
  };
  assert.deepEqual(take("http://h/#token=abc"), ["abc", undefined, "/"]);
  assert.deepEqual(take("http://h/ui/chat/main?session=k#token=a%2Bb&x=1"), ["a+b", "k", "/ui/chat/main?session=k#x=1"]);
  assert.deepEqual(take("http://h/chat/agent%3Amain%3Ax"), [undefined, "agent:main:x", "http://h/chat/agent%3Amain%3Ax"]);
  assert.deepEqual(take("http://h/?token=abc"), [undefined, undefined, "/"]);
});

test("processes in words", () => {
  assert.deepEqual(["ready", "backoff", "starting", "stopped", "never-heard"].map(toneOf), ["good", "bad", "busy", "rest", "rest"]);
  assert.deepEqual([memoryText(0), memoryText(5230), memoryText(20480)], ["", "5.1 MB", "20 MB"]);
  assert.deepEqual([ageText(5e3), ageText(3.6e6), ageText(9e7)], ["5 s", "1 h", "1 d"]);
  const problems = problemsOf({ info: { degraded: ["agent:x: quarantined"] }, health: { ok: true }, workers: [{ id: "agent:x", state: "quarantined" }, { id: "channel:y", state: "backoff", why: "409" }] });
  assert.deepEqual(problems, ["agent:x: quarantined", "channel:y: backoff – 409"]);
});

test("titles and summaries", () => {
  assert.equal(titleOf({ key: "agent:main:main" }, "agent:main:main"), "Main");
  assert.equal(titleOf({ key: "agent:main:telegram:direct:7" }, "agent:main:main"), "telegram:direct:7");
  assert.equal(titleOf({ key: "agent:main:x", label: "a\n b" }, ""), "a b");
  assert.equal(titleOf({ key: "agent:main:main", derivedTitle: "hello" }, "agent:main:main"), "Main");
  assert.equal(titleOf({ key: "agent:main:web-12", sessionId: "abcdef", derivedTitle: "first words" }, ""), "first words");
  assert.equal(titleOf({ key: "agent:main:web-12", sessionId: "abcdef", derivedTitle: "abc" }, ""), "Chat 12");
  assert.equal(toolSummary({ command: "ls\n-la" }), "ls");
  assert.equal(toolSummary({ limit: 3, where: "there" }), "there");
});
