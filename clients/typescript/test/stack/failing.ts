/** A model that refuses: an exception of its own class behind the events, or an event only. */
import assert from "node:assert/strict";

import { ProviderAuth } from "../../src/node.ts";
import { connect } from "./world.ts";

const parley = await connect();
const turn = parley.ask("Hello?");
const types: string[] = [];
await assert.rejects(
  async () => {
    for await (const event of turn) types.push(event.type);
  },
  (error) => error instanceof ProviderAuth && error.code === "provider_auth" && !error.retryable,
);
assert.ok(types.includes("failed"));
await assert.rejects(turn.text(), ProviderAuth);
await assert.rejects(turn.save(), ProviderAuth);
const told: string[] = [];
for await (const event of turn.events()) told.push(event.type);
assert.ok(told.includes("failed"));
await parley.close();
