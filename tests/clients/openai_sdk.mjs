// The OpenAI SDK against our gateway.
// Usage: node openai_sdk.mjs <http url> <token>. Prints one JSON line of results.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { run, within } from "./session.mjs";

const say = (content) => [{ role: "user", content }];

async function models(client) {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.deepEqual(ids, ["openclaw", "openclaw/default", "openclaw/main"]);
  assert.equal((await client.models.retrieve("openclaw/main")).owned_by, "openclaw");
  await assert.rejects(client.models.retrieve("nothing"), (error) => {
    assert.deepEqual([error.status, error.error.message, error.type], [400, "Invalid model id.", "invalid_request_error"]);
    return true;
  });
  return ids;
}

async function whole(client) {
  const answer = await client.chat.completions.create({ model: "openclaw:main", messages: say("hello from the SDK") });
  assert.match(answer.id, /^chatcmpl_/);
  assert.deepEqual([answer.object, answer.model, answer.choices.length], ["chat.completion", "openclaw:main", 1]);
  const [{ message, finish_reason: reason, index }] = answer.choices;
  assert.deepEqual([message.role, reason, index], ["assistant", "stop", 0]);
  assert.match(message.content, /hello from the SDK/);
  const { prompt_tokens: sent, completion_tokens: received, total_tokens: total } = answer.usage;
  assert.ok(sent > 0 && received > 0 && total >= sent + received, JSON.stringify(answer.usage));
  return total;
}

async function streamed(client) {
  const stream = await client.chat.completions.create({
    model: "openclaw", messages: say("streamed to the SDK"), stream: true, stream_options: { include_usage: true },
  });
  let text = "";
  let pieces = 0;
  const reasons = [];
  let usage;
  let id;
  for await (const chunk of stream) {
    id ??= chunk.id;
    assert.deepEqual([chunk.object, chunk.id, chunk.model], ["chat.completion.chunk", id, "openclaw"]);
    usage = chunk.usage ?? usage;
    const [choice] = chunk.choices;
    if (!choice) continue;
    if (pieces === 0) assert.equal(choice.delta.role, "assistant");
    pieces += 1;
    text += choice.delta.content ?? "";
    if (choice.finish_reason) reasons.push(choice.finish_reason);
  }
  assert.match(text, /streamed to the SDK/);
  assert.ok(pieces > 3, "the answer came in pieces");
  assert.deepEqual(reasons, ["stop"]);
  assert.ok(usage.total_tokens > 0);
  const runner = client.chat.completions.stream({ model: "openclaw", messages: say("run: echo by-the-tool") });
  assert.match(await runner.finalContent(), /by-the-tool/);
  return pieces;
}

async function refusals(client, url) {
  const create = (more) => client.chat.completions.create({ model: "openclaw", messages: say("x"), ...more });
  await assert.rejects(new OpenAI({ baseURL: `${url}/v1`, apiKey: "wrong", maxRetries: 0 }).models.list(), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError, String(error));
    assert.deepEqual([error.status, error.error.message, error.type], [401, "Unauthorized", "unauthorized"]);
    return true;
  });
  for (const model of ["gpt-4", "openclaw:nobody"]) {
    await assert.rejects(create({ model }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError, String(error));
      assert.equal(error.type, "invalid_request_error");
      return true;
    });
  }
  await assert.rejects(create({ messages: [{ role: "system", content: "only this" }] }), (error) => {
    assert.deepEqual([error.status, error.error.message], [400, "Missing user message in `messages`."]);
    return true;
  });
}

async function history(client) {
  // A system message is no part of the conversation; earlier messages are.
  const answer = await client.chat.completions.create({
    model: "openclaw",
    messages: [
      { role: "system", content: "be brief" }, { role: "user", content: "first" }, { role: "assistant", content: "noted" },
      { role: "user", content: [{ type: "text", text: "second" }, { type: "text", text: "third" }] },
    ],
  });
  assert.match(answer.choices[0].message.content, /second[\s\S]*third/);
}

async function cancelled(client) {
  const stop = new AbortController();
  const stream = await client.chat.completions.create({ model: "openclaw", user: "leaver", messages: say("run: sleep 300"), stream: true }, { signal: stop.signal });
  let seen = 0;
  await within("the end of the stream", (async () => {
    for await (const chunk of stream) {
      seen += chunk.choices.length;
      if (seen > 0) stop.abort();
    }
  })().catch((error) => assert.ok(error instanceof OpenAI.APIUserAbortError, String(error))));
  assert.ok(stop.signal.aborted);
}

await run(async ([url, token]) => {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: token, maxRetries: 0 });
  const ids = await models(client);
  const tokens = await whole(client);
  const pieces = await streamed(client);
  await refusals(client, url);
  await history(client);
  for (const content of ["first of the user", "second of the user"]) {
    await client.chat.completions.create({ model: "openclaw", user: "steady", messages: say(content) });
  }
  await cancelled(client);
  return { ok: true, models: ids, tokens, pieces };
});
