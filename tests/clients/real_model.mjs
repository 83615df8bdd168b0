// A real language model behind OpenAI's chat completions API, to see the gateway answer with words that nobody
// scripted. How to run it and what it showed: docs/real-model.md. Not part of any test run.
//
//   node real_model.mjs <model.gguf> [port] [context tokens] [threads]
//
// Prints one JSON line with its base URL when it listens, then one JSON line per request on standard error.
// It reads `messages`, `stream`, `stream_options.include_usage`, `max_tokens` and `temperature`. It ignores `tools`:
// a model of this size does not call functions.
import { createServer } from "node:http";
import { once } from "node:events";
import { basename } from "node:path";
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// The runner is installed in the folder beside this file, so that other clients do without its 85 MB.
const packages = createRequire(new URL("./real-model/package.json", import.meta.url));
const { getLlama } = await import(pathToFileURL(packages.resolve("node-llama-cpp")).href);

/** Longest request body in bytes: far more text than any context of this model holds. */
const BODY_BYTES_MAX = 4 * 1024 * 1024;
/** Requests that wait for the model, which answers one at a time; a gateway's default is 4 runs at once. */
const WAITING_MAX = 16;
/** Tokens of a reply whose request names no limit. */
const REPLY_TOKENS_DEFAULT = 256;
/** Greedy choice makes a small model repeat itself: its last 64 tokens are made a little less likely. */
const REPEAT = { penalty: 1.1, tokens: 64 };
/** A character has at most 4 bytes, so at most 4 tokens; after more the text is what it is. */
const HELD_TOKENS_MAX = 4;

// One thread by default: several wait for each other by spinning, which on a busy machine is slower by far.
const [file, port = "0", size = "8192", threads = "1"] = process.argv.slice(2);
if (file === undefined) {
  console.error("usage: node real_model.mjs <model.gguf> [port] [context tokens] [threads]");
  process.exit(2);
}
const id = basename(file, ".gguf").replace(/\.Q\d.*$/, "").replace(/-Instruct$/, "").toLowerCase();

const began = performance.now();
const llama = await getLlama({
  gpu: false, build: "never", skipDownload: true, logLevel: "error", maxThreads: Number(threads),
});
const model = await llama.loadModel({ modelPath: file });
const context = await model.createContext({ contextSize: Number(size), sequences: 1, threads: Number(threads) });
const sequence = context.getSequence();
const loadMs = Math.round(performance.now() - began);

class Refused extends Error {
  constructor(status, message, code = null) {
    super(message);
    this.status = status;
    this.body = { error: { message, type: status < 500 ? "invalid_request_error" : "server_error", code } };
  }
}

/** Text of a message whose content is a string, nothing, or a list of parts. */
function textOf(content) {
  if (Array.isArray(content)) return content.map((part) => part.text ?? "").join("");
  return content ?? "";
}

/** The conversation in the form that the model was trained with (ChatML). Texts cannot smuggle in its marks. */
function tokensOf(messages) {
  const mark = (text) => model.tokenize(text, true);
  const tokens = [];
  for (const { role, content } of messages) {
    tokens.push(...mark("<|im_start|>"), ...model.tokenize(`${role}\n${textOf(content)}`), ...mark("<|im_end|>\n"));
  }
  return [...tokens, ...mark("<|im_start|>assistant\n")];
}

/** Generates one reply; `say` gets its text piece by piece. Gives usage, reason of the end, and times. */
async function generate(request, signal, say) {
  const prompt = tokensOf(request.messages);
  const room = context.contextSize - prompt.length;
  if (room < 1) {
    const words = `This model's maximum context length is ${context.contextSize} tokens, the messages have ${prompt.length}.`;
    throw new Refused(400, words, "context_length_exceeded");
  }
  const limit = Math.min(request.max_completion_tokens ?? request.max_tokens ?? REPLY_TOKENS_DEFAULT, room);
  const start = performance.now();
  // What the model still holds of the last request is not computed again; the last token has to be.
  await sequence.adaptStateToTokens(prompt.slice(0, -1), false);
  const cached = sequence.nextTokenIndex;
  const reply = [];
  const options = {
    temperature: request.temperature ?? 0,
    repeatPenalty: { penalty: REPEAT.penalty, punishTokens: () => reply.slice(-REPEAT.tokens) },
  };
  let [firstMs, finish, held] = [0, "stop", []];
  const flush = () => {
    say(model.detokenize(held, false, reply.slice(0, reply.length - held.length)));
    held = [];
  };
  for await (const token of sequence.evaluate(prompt.slice(cached), options)) {
    firstMs ||= performance.now() - start;
    reply.push(token);
    held.push(token);
    const whole = !model.detokenize(held).endsWith("\uFFFD");
    if (whole || held.length >= HELD_TOKENS_MAX) flush();
    if (signal.aborted) finish = "aborted";
    else if (reply.length >= limit) finish = "length";
    else continue;
    break;
  }
  if (held.length > 0) flush();
  const totalMs = performance.now() - start;
  return {
    finish,
    usage: {
      prompt_tokens: prompt.length,
      completion_tokens: reply.length,
      total_tokens: prompt.length + reply.length,
      prompt_tokens_details: { cached_tokens: cached },
    },
    firstMs: Math.round(firstMs),
    tokensPerSecond: Math.round((reply.length - 1) / ((totalMs - firstMs) / 1000)) || 0,
  };
}

let [last, waiting] = [Promise.resolve(), 0];

/** Runs `work` when all earlier ones have ended: there is one model with one memory. */
async function inTurn(work) {
  if (waiting >= WAITING_MAX) throw new Refused(503, `${WAITING_MAX} requests wait already; try again later`);
  waiting += 1;
  const mine = last.then(work);
  last = mine.catch(() => {});
  return mine.finally(() => (waiting -= 1));
}

async function bodyOf(request) {
  const parts = [];
  let bytes = 0;
  for await (const part of request) {
    bytes += part.length;
    if (bytes > BODY_BYTES_MAX) throw new Refused(413, `the body is longer than ${BODY_BYTES_MAX} bytes`);
    parts.push(part);
  }
  try {
    const body = JSON.parse(Buffer.concat(parts).toString());
    if (Array.isArray(body.messages) && body.messages.length > 0) return body;
  } catch (error) {
    throw new Refused(400, `the body is not JSON: ${error.message}`);
  }
  throw new Refused(400, "`messages` must be a list with at least one message");
}

async function complete(request, response) {
  const body = await bodyOf(request);
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  const head = { id: `chatcmpl-${randomUUID()}`, created: Math.floor(Date.now() / 1000), model: id };
  let text = "";
  const chunk = (fields) => {
    if (!response.headersSent) response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(`data: ${JSON.stringify({ ...head, object: "chat.completion.chunk", ...fields })}\n\n`);
  };
  const say = (piece) => {
    if (body.stream) chunk({ choices: [{ index: 0, delta: text ? { content: piece } : { role: "assistant", content: piece } }] });
    text += piece;
  };
  const done = await inTurn(() => generate(body, gone.signal, say));
  console.error(JSON.stringify({ ...done, textChars: text.length }));
  if (!body.stream) {
    const choices = [{ index: 0, message: { role: "assistant", content: text }, finish_reason: done.finish }];
    return answer(response, 200, { ...head, object: "chat.completion", choices, usage: done.usage });
  }
  chunk({ choices: [{ index: 0, delta: {}, finish_reason: done.finish }] });
  if (body.stream_options?.include_usage) chunk({ choices: [], usage: done.usage });
  response.end("data: [DONE]\n\n");
}

function answer(response, status, body) {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

const server = createServer(async (request, response) => {
  try {
    const call = `${request.method} ${new URL(request.url, "http://localhost").pathname}`;
    if (call === "POST /v1/chat/completions") return await complete(request, response);
    if (call !== "GET /v1/models") throw new Refused(404, `${call} is not served here`);
    answer(response, 200, { object: "list", data: [{ id, object: "model", created: 0, owned_by: "local" }] });
  } catch (error) {
    console.error(JSON.stringify({ error: error.message }));
    if (response.headersSent) return response.destroy(error);
    answer(response, error.status ?? 500, error.body ?? new Refused(500, error.message).body);
  }
});
server.listen(Number(port), "127.0.0.1");
await once(server, "listening");
const baseUrl = `http://127.0.0.1:${server.address().port}/v1`;
console.log(JSON.stringify({ baseUrl, model: id, contextTokens: context.contextSize, loadMs }));
