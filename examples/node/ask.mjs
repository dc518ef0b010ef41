// Ask Parley with nats.js alone: the words as they come, the voice into a file of raw samples
// (24 kHz, 16 bit, mono).
//
//     npm ci && node ask.mjs "Why is the sky blue?" [FILE.pcm]
//
// `@parley/client` does this, and what is left out here: reading back what was swallowed.
import { createWriteStream } from "node:fs";
import { randomUUID } from "node:crypto";
import { connect } from "@nats-io/transport-node";

const [question, file = "answer.pcm"] = process.argv.slice(2);
const nc = await connect({
  servers: process.env.NATS_URL ?? "nats://127.0.0.1:4222",
  user: process.env.NATS_USER,
  pass: process.env.NATS_PASSWORD,
});
const conversation = randomUUID();
const turn = randomUUID();
const words = nc.subscribe(`chat.delta.${conversation}`);
const voice = nc.subscribe(`tts.audio.${conversation}`);
await nc.flush();

const request = JSON.stringify({ content: question, turn_id: turn });
const answer = (await nc.request(`chat.ask.${conversation}`, request, { timeout: 10_000 })).json();
if (answer.error) throw new Error(answer.error.message);

async function read() {
  let attempt = 0;
  let seq = -1;
  for await (const message of words) {
    const event = message.json();
    if (event.attempt < attempt || (event.attempt === attempt && event.seq <= seq)) continue;
    if (attempt && event.attempt > attempt) process.stdout.write("\n(begun again)\n");
    ({ attempt, seq } = event);
    if (event.type === "text") process.stdout.write(event.text);
    if (event.type === "failed") throw new Error(`${event.error.code}: ${event.error.message}`);
    if (event.type === "done") return;
  }
}

async function hear() {
  const out = createWriteStream(file);
  let pieces = new Map(); // chunks by piece, of the attempt that speaks now
  let attempt = 0;
  let bytes = 0;
  for await (const message of voice) {
    const kind = message.headers.get("Parley-Type");
    const event = kind === "chunk" ? undefined : message.json();
    const now = event?.attempt ?? Number(message.headers.get("Parley-Attempt"));
    if (now < attempt) continue; // a leftover of a worker that was replaced
    if (now > attempt) {
      attempt = now;
      pieces = new Map(); // pieces that were not done are spoken again
    }
    if (kind === "chunk") {
      const piece = Number(message.headers.get("Parley-Piece"));
      if (!pieces.has(piece)) pieces.set(piece, []);
      pieces.get(piece).push(message.data);
    } else if (kind === "piece_done") {
      for (const data of pieces.get(event.index) ?? []) {
        out.write(data);
        bytes += data.length;
      }
      pieces.delete(event.index);
    } else if (kind === "failed") {
      throw new Error(`no voice: ${event.error.message}`);
    } else if (kind === "stored") {
      await new Promise((done) => out.end(done));
      return bytes;
    }
  }
}

const [, bytes] = await Promise.all([read(), hear()]);
console.log(`\n${file}: ${(bytes / 48_000).toFixed(1)} s`);
await nc.close();
