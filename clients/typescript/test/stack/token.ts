/** A token opens its conversation and no other. */
import assert from "node:assert/strict";

import { Parley, Unauthorized, Unreachable } from "../../src/node.ts";
import { connect, given } from "./world.ts";

const conversation = given("CONVERSATION");
let fetched = 0;
const parley = await connect({
  token: async () => {
    fetched += 1;
    return given("TOKEN");
  },
});
assert.equal(fetched, 1);
const turn = parley.ask("How is the weather?", { conversation });
for await (const _ of turn);
assert.equal(await turn.text(), given("STORY"));
assert.ok((await turn.save()).size > 44);
const limits = { giveUpMs: 3_000, idleMs: 5_000 };
await assert.rejects(parley.ask("And yours?", limits).text(), Unauthorized);
await assert.rejects(parley.follow("another", "turn", limits).text(), Unauthorized);
await assert.rejects(parley.history("another").next(), Unauthorized);
await assert.rejects(parley.say("Hello.", { conversation }).save(), Unauthorized);
await parley.close();
await assert.rejects(Parley.connect(given("NATS_URL"), { token: "a.b.c" }), Unauthorized);
await assert.rejects(Parley.connect("nats://127.0.0.1:1"), Unreachable);
