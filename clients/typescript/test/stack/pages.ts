/** A history of many pages, newest first. */
import assert from "node:assert/strict";

import { connect, given } from "./world.ts";

const parley = await connect();
const pages = [];
for await (const page of parley.history(given("CONVERSATION"))) pages.push(page);
assert.ok(pages.length > 2);
const contents = pages.reverse().flatMap((page) => page.messages.map(({ content }) => content.trim()));
assert.deepEqual(contents, Array.from({ length: 1_500 }, (_, at) => `Message ${at}.`));
await parley.close();
