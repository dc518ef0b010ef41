/** Something dies in the midst of a turn; who reads it live, and who joins late, miss nothing. */
import assert from "node:assert/strict";

import type { TurnEvent } from "../../src/node.ts";
import { assertWhole, connect, given, pcmOf, reached } from "./world.ts";

const parley = await connect();
const turn = parley.ask("Tell me something long.");
const events: TurnEvent[] = [];
let told = false;
for await (const event of turn) {
  events.push(event);
  if (event.type === "chunk" && event.piece === 1 && !told) {
    told = true;
    reached("speaking");
  }
}
const { text, pcm } = assertWhole(events);
assert.equal(text, given("LONG"));
const late: TurnEvent[] = [];
for await (const event of parley.follow(turn.conversationId, turn.turnId)) late.push(event);
const found = assertWhole(late);
assert.equal(found.text, text);
assert.deepEqual(found.pcm, pcm);
const stored = await fetch((await turn.link()).url);
assert.deepEqual(pcmOf(new Uint8Array(await stored.arrayBuffer())), pcm);
reached(`attempts ${Math.max(...events.map(({ attempt }) => attempt))}`);
await parley.close();
