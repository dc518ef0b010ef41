/** A reader that is slower than the voice is made: little waits for it, and nothing is lost. */
import assert from "node:assert/strict";

import type { TurnEvent } from "../../src/node.ts";
import { assertWhole, connect, given } from "./world.ts";

const parley = await connect();
const turn = parley.ask("Tell me something long.", { limits: { events: 30, bytes: 100_000 } });
const events: TurnEvent[] = [];
for await (const event of turn) {
  events.push(event);
  await new Promise((resolve) => setTimeout(resolve, 5));
}
const { text, pcm } = assertWhole(events);
assert.equal(text, given("LONG"));
assert.deepEqual(pcm, await turn.voice());
await parley.close();
