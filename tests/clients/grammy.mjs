// grammY, a Telegram client that others wrote, against the Bot API double.
// Usage: node grammy.mjs <api root> <token>. Prints "ok" and ends with 0 when everything behaved.
import assert from "node:assert/strict";
import { once, EventEmitter } from "node:events";
import { Bot, GrammyError, InputFile } from "grammy";

const [apiRoot, token] = process.argv.slice(2);

async function control(what, body) {
  const init = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  const response = await fetch(`${apiRoot}/control/${what}`, init);
  assert.equal(response.status, 200, `${what}: ${await response.clone().text()}`);
  return response.json();
}

async function refused(promise, code, text) {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof GrammyError, String(error));
    assert.equal(error.error_code, code);
    assert.match(error.description, text);
    return true;
  });
}

const heard = new EventEmitter();
const bot = new Bot(token, { client: { apiRoot } });
bot.on("message:text", (ctx) => void heard.emit("text", ctx));
bot.on("message:photo", (ctx) => void heard.emit("photo", ctx));
bot.catch((error) => void heard.emit("error", error));

const me = await bot.api.getMe();
assert.equal(me.is_bot, true);
const started = new Promise((onStart) => void bot.start({ onStart, drop_pending_updates: false }));
await started;

async function receive(kind, push) {
  const arrived = once(heard, kind);
  await control("push", push);
  const [ctx] = await arrived;
  return ctx;
}

// Direct: text, reply, edit, delete, typing.
const direct = await receive("text", { chat: 7, user: 7, text: "hello" });
assert.equal(direct.chat.type, "private");
await direct.replyWithChatAction("typing");
const answer = await direct.reply("<b>hi</b> <code>x &lt; 1</code>", {
  parse_mode: "HTML",
  reply_parameters: { message_id: direct.msg.message_id },
});
assert.deepEqual(answer.entities.map((e) => e.type), ["bold", "code"]);
assert.equal(answer.text, "hi x < 1");
await bot.api.editMessageText(7, answer.message_id, "changed");
await refused(bot.api.editMessageText(7, answer.message_id, "changed"), 400, /message is not modified/);
await refused(bot.api.editMessageText(7, 9999, "x"), 400, /message to edit not found/);
const gone = await direct.reply("to be deleted");
await bot.api.deleteMessage(7, gone.message_id);
const shown = await control("visible?chat=7");
assert.deepEqual(shown.map((m) => [m.text, m.reply_to]), [["changed", direct.msg.message_id]]);

// Groups: mention by entity, topics, replies.
const group = await receive("text", { chat: -1007, kind: "supergroup", user: 8, text: "look", mention: true, topic: 5 });
assert.equal(group.entities("mention")[0].text, `@${me.username}`);
assert.equal(group.msg.message_thread_id, 5);
assert.equal((await group.reply("in the topic")).message_thread_id, 5);

// Refusals.
await refused(bot.api.sendMessage(7, "<b>open", { parse_mode: "HTML" }), 400, /can't parse entities/);
await refused(bot.api.sendMessage(7, "x".repeat(4097)), 400, /message is too long/);
assert.ok(await bot.api.sendMessage(7, "x".repeat(4096)));
await refused(bot.api.sendMessage(7, "  "), 400, /message text is empty/);
await refused(bot.api.sendMessage(12345, "x"), 400, /chat not found/);
await control("block?chat=8", {});
await refused(bot.api.sendMessage(8, "x"), 403, /blocked by the user/);
await control("fault", { method: "sendMessage", times: 1, fault: { rate_limit: 3 } });
await assert.rejects(bot.api.sendMessage(7, "x"), (error) => error.parameters.retry_after === 3);
await control("fault", { method: "sendMessage", times: 1, fault: "cut_after" });
await assert.rejects(bot.api.sendMessage(7, "sent but not confirmed"));
assert.ok((await control("visible?chat=7")).some((m) => m.text === "sent but not confirmed"));

// Files, both ways.
const photo = await receive("photo", { chat: 7, user: 7, text: "a picture", file: ["photo", [1, 2, 3]] });
assert.equal(photo.msg.caption, "a picture");
const file = await photo.getFile();
const bytes = await fetch(`${apiRoot}/file/bot${token}/${file.file_path}`).then((r) => r.arrayBuffer());
assert.deepEqual([...new Uint8Array(bytes)], [1, 2, 3]);
const document = await bot.api.sendDocument(7, new InputFile(Buffer.from("report"), "report.txt"), { caption: "see" });
assert.equal(document.document.file_name, "report.txt");

// Commands, webhook, offsets.
await bot.api.setMyCommands([{ command: "status", description: "How are you" }]);
assert.equal((await bot.api.getMyCommands())[0].command, "status");
await refused(bot.api.setMyCommands([{ command: "Not Valid", description: "x" }]), 400, /BOT_COMMAND_INVALID/);
assert.equal((await bot.api.getWebhookInfo()).url, "");
await bot.stop();
assert.equal((await control("state")).unconfirmed, 0, "stop confirms what was handled");

// Two pollers: the earlier one is told so.
const first = bot.api.getUpdates({ timeout: 20 });
const conflict = refused(first, 409, /terminated by other getUpdates request/);
while ((await control("state")).polling === 0) await new Promise((resolve) => setImmediate(resolve));
const second = bot.api.getUpdates({ timeout: 0 });
await conflict;
assert.deepEqual(await second, []);

console.log("ok");
