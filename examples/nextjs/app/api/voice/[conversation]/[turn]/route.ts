import { nats } from "../../../../../lib/nats";

export const dynamic = "force-dynamic";
const ID = /^[A-Za-z0-9_-]{1,128}$/;

/** The voice of a turn as it is made: a WAV file whose length nobody knows yet. */
export async function GET(
  _: Request,
  { params }: { params: Promise<{ conversation: string; turn: string }> },
): Promise<Response> {
  const { conversation, turn } = await params;
  if (!ID.test(conversation) || !ID.test(turn)) return new Response(null, { status: 404 });
  const nc = await nats();
  const live = nc.subscribe(`tts.audio.${conversation}`);
  await nc.flush();

  const body = new ReadableStream<Uint8Array>({
    async start(controller) {
      controller.enqueue(header());
      let attempt = 0;
      let seq = -1; // of the last chunk: what was read back comes live, too
      let done = -1; // the last piece that was sent whole
      let pieces = new Map<number, Uint8Array[]>();
      const take = (headers: { get(name: string): string }, data: Uint8Array) => {
        const kind = headers.get("Parley-Type");
        const event = kind === "chunk" ? undefined : JSON.parse(new TextDecoder().decode(data));
        const now = event?.attempt ?? Number(headers.get("Parley-Attempt"));
        if (now < attempt) return false;
        if (now > attempt) {
          [attempt, seq] = [now, -1];
          pieces = new Map();
        }
        if (kind === "chunk") {
          if (Number(headers.get("Parley-Seq")) <= seq) return false;
          seq = Number(headers.get("Parley-Seq"));
          const piece = Number(headers.get("Parley-Piece"));
          pieces.set(piece, [...(pieces.get(piece) ?? []), data]);
        } else if (kind === "piece_done" && event.index > done) {
          for (const chunk of pieces.get(event.index) ?? []) controller.enqueue(chunk);
          done = event.index;
        }
        return kind === "stored" || kind === "failed";
      };
      // What was said before anybody listened, then what comes.
      const past = JSON.stringify({ what: "audio", turn_id: turn });
      const replay = await nc.requestMany(`chat.replay.${conversation}`, past, {
        strategy: "sentinel",
        maxWait: 10_000,
      });
      let ended = false;
      for await (const message of replay) {
        if (message.data.length) ended = take(message.headers!, message.data) || ended;
      }
      if (!ended) {
        for await (const message of live) {
          if (message.headers?.get("Parley-Turn") !== turn) continue;
          if (take(message.headers, message.data)) break;
        }
      }
      live.unsubscribe();
      controller.close();
    },
    cancel() {
      live.unsubscribe();
    },
  });
  return new Response(body, { headers: { "Content-Type": "audio/wav" } });
}

/** Of 24 kHz, 16 bit, mono, as long as can be. */
function header(): Uint8Array {
  const view = new DataView(new ArrayBuffer(44));
  const text = (at: number, word: string) =>
    [...word].forEach((char, n) => view.setUint8(at + n, char.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 0xffffffff, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, 24_000, true);
  view.setUint32(28, 48_000, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 0xffffffff, true);
  return new Uint8Array(view.buffer);
}
