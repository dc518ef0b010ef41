/** One turn, by all that a turn can do. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { InvalidRequest, NotFound, isVoice } from "../../src/node.ts";
import type { TurnEvent } from "../../src/node.ts";
import { assertWhole, connect, given, pcmOf } from "./world.ts";

const parley = await connect();
const turn = parley.ask("How is the weather?", { metadata: { from: "here" }, speech: { alignment: "word" } });
assert.equal(turn.position, null);
const events: TurnEvent[] = [];
for await (const event of turn) events.push(event);
const { text, pcm } = assertWhole(events);
assert.equal(text, given("STORY"));
assert.equal((await turn.accepted())?.state, "queued");
const [started] = events;
assert.ok(started?.type === "started" && started.metadata.from === "here");
assert.ok(events.some((event) => event.type === "piece_done" && event.words?.length), "no words");

// What is read later is the same.
assert.equal(await turn.text(), text);
assert.equal((await turn.done()).usage.completion_tokens !== 0, true);
assert.deepEqual(await turn.voice(), pcm);
const path = join(given("FOLDER"), "a.wav");
const blob = await turn.save(path);
assert.equal(blob.type, "audio/wav");
const file = await readFile(path);
assert.deepEqual(new Uint8Array(await blob.arrayBuffer()), new Uint8Array(file));
assert.deepEqual(pcmOf(file), pcm);
const stored = await fetch((await turn.link()).url);
assert.deepEqual(pcmOf(new Uint8Array(await stored.arrayBuffer())), pcm);
await assert.rejects(turn.save(join(given("FOLDER"), "a.mp3")), InvalidRequest);

// A reader that left goes on from where it was, in another process if need be.
const { conversationId, turnId } = turn;
const first = parley.follow(conversationId, turnId);
const seen: TurnEvent[] = [];
for await (const event of first) {
  seen.push(event);
  if (event.type === "piece_done") break;
}
const after = JSON.parse(JSON.stringify(first.position));
for await (const event of parley.follow(conversationId, turnId, { after })) seen.push(event);
const keys = (all: TurnEvent[]) => all.map((event) => JSON.stringify({ ...event, pcm: "" })).sort();
assert.deepEqual(keys(seen), keys(events));

// The same turn is not answered twice.
const again = parley.ask("How is the weather?", { conversation: conversationId, turnId });
assert.equal(await again.text(), text);
assert.equal((await again.accepted())?.state, "ended");

// A voice alone, and a text alone.
const said = parley.say("Hello there.", { conversation: conversationId });
const types = new Set<string>();
for await (const event of said) types.add(event.type);
assert.deepEqual([...types].sort(), ["audio_started", "chunk", "piece", "piece_done", "stored"]);
assert.deepEqual(await parley.follow(conversationId, said.turnId).voice(), await said.voice());
const silent: TurnEvent[] = [];
for await (const event of parley.ask("Quietly?", { conversation: conversationId, speech: false })) silent.push(event);
assert.ok(!silent.some(isVoice));
await assert.rejects(parley.link(conversationId, silent[0]?.turn_id ?? ""), NotFound);

const pages = [];
for await (const page of parley.history(conversationId, { limit: 3 })) pages.push(page);
assert.ok(pages.length >= 2);
const messages = pages.reverse().flatMap((page) => page.messages);
assert.deepEqual(messages.slice(0, 2).map(({ content }) => content), ["How is the weather?", text]);

await assert.rejects(parley.ask("x", { temperature: 7 }).text(), InvalidRequest);

await parley.delete(conversationId);
for await (const page of parley.history(conversationId)) assert.deepEqual(page.messages, []);
await parley.close();
