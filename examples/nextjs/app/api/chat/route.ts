import { randomUUID } from "node:crypto";
import { nats } from "../../../lib/nats";

export const dynamic = "force-dynamic";

/** What the page sends the provider's route, and is sent by it: `{messages}` in, and out the lines
 * of `toReadableStream()` of the package `together-ai`. */
export async function POST(request: Request): Promise<Response> {
  const { messages } = await request.json();
  const nc = await nats();
  const conversation = randomUUID();
  const turn = randomUUID();
  const events = nc.subscribe(`chat.delta.${conversation}`);
  await nc.flush();
  const asked = JSON.stringify({ messages, history: "none", turn_id: turn });
  const answer = await nc.request(`chat.ask.${conversation}`, asked, { timeout: 10_000 });
  const { error } = answer.json<{ error?: { message: string } }>();
  if (error) {
    events.unsubscribe();
    return Response.json({ error }, { status: 400 });
  }

  const encoder = new TextEncoder();
  const line = (delta: object, finish: string | null = null, usage?: object) =>
    encoder.encode(
      `${JSON.stringify({
        id: turn,
        object: "chat.completion.chunk",
        created: Math.floor(Date.now() / 1000),
        model: "parley",
        choices: [{ index: 0, delta, finish_reason: finish, logprobs: null }],
        ...(usage && { usage }),
      })}\n`,
    );

  const body = new ReadableStream<Uint8Array>({
    async start(controller) {
      let place = [0, -1]; // attempt, seq
      for await (const message of events) {
        const event = message.json<any>();
        if (event.attempt < place[0] || (event.attempt === place[0] && event.seq <= place[1])) {
          continue; // a leftover, or a repetition
        }
        // What was said can't be unsaid in this format: an answer that begins anew stands below.
        const anew = place[0] > 0 && event.attempt > place[0];
        place = [event.attempt, event.seq];
        if (anew) controller.enqueue(line({ role: "assistant", content: "\n\n" }));
        if (event.type === "text") {
          controller.enqueue(line({ role: "assistant", content: event.text }));
        } else if (event.type === "done") {
          const usage = event.usage && {
            ...event.usage,
            total_tokens: event.usage.prompt_tokens + event.usage.completion_tokens,
          };
          const finish = event.finish_reason === "cancelled" ? "stop" : event.finish_reason;
          controller.enqueue(line({ role: "assistant", content: "" }, finish, usage));
          break;
        } else if (event.type === "failed") {
          controller.error(new Error(event.error.message));
          return;
        }
      }
      controller.close();
    },
    cancel() {
      events.unsubscribe();
      nc.publish(`chat.cancel.${conversation}`, JSON.stringify({ turn_id: turn }));
    },
  });
  return new Response(body, { headers: { "Parley-Turn": `${conversation}/${turn}` } });
}
