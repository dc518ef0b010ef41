import assert from "node:assert/strict";
import { test } from "node:test";

import type { Delta, History, Message } from "../src/contract.ts";
import { Conversation } from "../src/conversation.ts";

const at = "2030-01-01T00:00:00Z";
const facts = (turn_id: string, seq: number, attempt = 1) => ({ conversation_id: "c", turn_id, attempt, seq });
const started = (turn: string, attempt = 1): Delta => ({
  type: "started", ...facts(turn, 0, attempt), model: "m", metadata: {}, speech: {}, created_at: at,
});
const text = (turn: string, seq: number, words: string, attempt = 1): Delta => ({
  type: "text", ...facts(turn, seq, attempt), text: words,
});
const done = (turn: string, seq: number, words: string, finish: "stop" | "cancelled" = "stop"): Delta => ({
  type: "done", ...facts(turn, seq), finish_reason: finish, text: words,
  usage: { prompt_tokens: 1, completion_tokens: 1 }, first_token_ms: 1, duration_ms: 1, metadata: {},
});
const message = (turn_id: string, role: "user" | "assistant", content: string, more: Partial<Message> = {}): Message => ({
  id: `${turn_id}-${role}-${content}`, role, content, turn_id, created_at: at, ...more,
});
const history = (messages: Message[], turn: History["turn"] = null): History => ({
  conversation_id: "c", messages, turn,
});
const told = (conversation: Conversation) => conversation.turns.map(({ question, text, state }) => [question, text, state]);

test("a turn under way is shown with its text so far and goes on from there", () => {
  const conversation = new Conversation("c");
  conversation.add(text("t", 4, "four")); // live, while the history is asked for
  conversation.add(text("t", 2, "two"));
  conversation.history(history([message("t", "user", "Count.")], { turn_id: "t", attempt: 1, text: "one two three ", seq: 3 }));
  assert.deepEqual(told(conversation), [["Count.", "one two three four", "answering"]]);
  conversation.add(done("t", 5, "one two three four"));
  assert.deepEqual(told(conversation), [["Count.", "one two three four", "complete"]]);
});

test("events read back a second time change nothing", () => {
  const conversation = new Conversation("c");
  const events = [started("t"), text("t", 1, "a"), text("t", 2, "b"), done("t", 3, "ab")];
  for (const event of [...events.slice(0, 2), ...events, ...events]) conversation.add(event);
  assert.deepEqual(told(conversation), [[null, "ab", "complete"]]);
  assert.ok(conversation.needsHistory);
});

test("a higher attempt forgets what earlier ones said", () => {
  const conversation = new Conversation("c");
  for (const event of [started("t"), text("t", 1, "wrong"), started("t", 2), text("t", 2, "late"), text("t", 1, "right", 2)]) {
    conversation.add(event);
  }
  assert.equal(conversation.get("t")?.text, "right");
});

test("a gap is known, and an older history does not undo what came since", () => {
  const conversation = new Conversation("c");
  conversation.add(started("t"));
  conversation.add(text("t", 2, "b"));
  assert.ok(conversation.gap);
  conversation.add(text("t", 1, "a"));
  assert.ok(!conversation.gap);
  conversation.history(history([message("t", "user", "?")], { turn_id: "t", attempt: 1, text: "a", seq: 1 }));
  assert.equal(conversation.get("t")?.text, "ab");
});

test("of an answer that was stopped, what the history keeps is told apart", () => {
  const conversation = new Conversation("c");
  conversation.ask("t", "Tell me.", true);
  conversation.add(started("t"));
  conversation.add(text("t", 1, "heard unheard"));
  conversation.add(done("t", 2, "heard unheard", "cancelled"));
  conversation.history(
    history([message("t", "user", "Tell me."), message("t", "assistant", "heard", { status: "interrupted" })]),
  );
  assert.deepEqual(told(conversation), [["Tell me.", "heard unheard", "interrupted"]]);
  assert.equal(conversation.get("t")?.kept, 5);
});

test("the order is that of the history; what it does not know stays in its place", () => {
  const conversation = new Conversation("c");
  conversation.ask("b", "Second?", false);
  conversation.ask("x", "Not there yet?", false);
  conversation.history(
    history([message("a", "user", "First?"), message("a", "assistant", "One."), message("b", "user", "Second?")]),
  );
  assert.deepEqual(conversation.turns.map((turn) => turn.id), ["a", "b", "x"]);
});

test("a request that brought several exchanges shows all of them", () => {
  const conversation = new Conversation("c");
  const found = history([
    message("t", "user", "1?"), message("t", "assistant", "One."), message("t", "user", "2?"), message("t", "assistant", "Two."),
  ]);
  conversation.history(found);
  conversation.history(found);
  assert.ok(told(conversation).some(([question, answer]) => question === "2?" && answer === "Two."));
  assert.equal(conversation.open.length, 0);
});
