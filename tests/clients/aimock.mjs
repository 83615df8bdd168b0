// A model vendor's server that others wrote (npm `@copilotkit/aimock`): prints its URL, serves until standard input
// ends. What it answers depends on the words of the user's message.
// Usage: node aimock.mjs <name of an api kind>...

import { LLMock } from "@copilotkit/aimock";

const mock = new LLMock({ port: 0, host: "127.0.0.1", logLevel: "silent" });

// The first request that says the words gets the fault, the next one the answer.
const healed = (words, fault) => {
  mock.addFixture({ match: { userMessage: words, sequenceIndex: 0 }, response: { content: LONG }, ...fault });
  mock.addFixture({ match: { userMessage: words }, response: { content: "the whole answer" } });
};
// Every request gets the fault.
const always = (words, fault) =>
  mock.addFixture({ match: { userMessage: words }, response: { content: LONG }, ...fault });

const LONG = "a sentence that is long enough to come in several pieces and to be broken off in the midst of it";

const faults = {
  limited: { chaos: { rateLimitRate: 1 } },
  dropped: { chaos: { dropRate: 1 } },
  malformed: { chaos: { malformedRate: 1 } },
  disconnected: { chaos: { disconnectRate: 1 } },
  truncated: { truncateAfterChunks: 3, chunkSize: 8 },
  stalled: { latency: 60_000, chunkSize: 4 },
  broken: { disconnectAfterMs: 150, latency: 60, chunkSize: 8 },
};
for (const [word, fault] of Object.entries(faults)) {
  for (const kind of process.argv.slice(2)) {
    healed(`${word} once ${kind}`, fault);
  }
  always(`${word} always`, fault);
}
mock.addFixture({
  match: { userMessage: "refused always" },
  response: { error: { message: "Incorrect API key provided", type: "invalid_request_error", code: "invalid_api_key" }, status: 401 },
});
mock.addFixture({ match: { userMessage: "look around", hasToolResult: true }, response: { content: "there it is" } });
mock.addFixture({
  match: { userMessage: "look around", hasToolResult: false },
  response: { content: "I will look.", toolCalls: [{ name: "ls", arguments: '{"path":"."}' }], reasoning: "hm, a list" },
});
mock.addFixture({
  match: { userMessage: "plain" },
  response: { content: "Grüße, 世界 😀", reasoning: "hm", usage: { input_tokens: 100, output_tokens: 20 } },
});

mock.addFixture({ match: { userMessage: "and now?" }, response: { content: "all well" } });

const url = await mock.start();
console.log(JSON.stringify({ url }));
process.stdin.resume();
process.stdin.on("end", () => mock.stop().then(() => process.exit(0)));
