/** Played and interrupted: the history keeps what was heard. */
import assert from "node:assert/strict";

import { Player, StreamSink } from "../../src/node.ts";
import type { Caption } from "../../src/node.ts";
import { connect, given } from "./world.ts";

const HEARD_MS = 2_500;
const parley = await connect();
let written = 0;
const captions: (Caption | null)[] = [];
const sink = new StreamSink({ write: (bytes) => (written += bytes.length) });
const player = new Player(sink, { onCaption: (caption) => captions.push(caption) });
const turn = parley.ask("Tell me something long.", { speech: { alignment: "word" } });
const playing = turn.play(player);
while (player.heardMs < HEARD_MS) await new Promise((resolve) => setTimeout(resolve, 20));
await turn.cancel();
const { heardMs, complete } = await playing;
assert.ok(!complete);
assert.ok(heardMs >= HEARD_MS && heardMs < HEARD_MS + 1_000, String(heardMs));
assert.ok(Math.abs(written / 48 - heardMs) < 150, `${written / 48} ms were written`);
assert.equal(turn.heardMs, heardMs);
assert.ok(captions.some((caption) => caption?.word), "no word was told");
assert.equal(captions.at(-1), null);

for await (const event of turn) if (event.type === "stored") assert.equal(event.finish, "cancelled");
const { value: page } = await parley.history(turn.conversationId)[Symbol.asyncIterator]().next();
const kept = page?.messages.at(-1);
assert.equal(kept?.status, "interrupted");
assert.ok(given("LONG").startsWith(kept.content));
assert.ok(kept.content.length > 10 && kept.content.length < 150, kept.content);

// Another question interrupts as well, and says how much was heard.
const second = parley.ask("Tell me something long.", { conversation: turn.conversationId });
const again = second.play(player);
while (player.heardMs < 500) await new Promise((resolve) => setTimeout(resolve, 20));
const third = parley.ask("Stop.", {
  conversation: turn.conversationId, onBusy: "interrupt", heardMs: player.stop().heardMs, speech: false,
});
assert.ok(!(await again).complete);
assert.ok(await third.text());
await parley.close();
