import type { Error as Failure, History, Message } from "./contract.ts";
import type { Later, TextEvent } from "./events.ts";
import { Timeline } from "./timeline.ts";

/** `sending`: not yet acknowledged; `waiting`: nobody has begun to answer. */
export type ExchangeState = "sending" | "waiting" | "answering" | "complete" | "interrupted" | "failed";

/** A question and its answer, as far as they are known. */
export class Exchange {
  question: string | null = null;
  text = "";
  /** Of an interrupted answer: how many UTF-16 units of `text` the history keeps; null: all. */
  kept: number | null = null;
  state: ExchangeState = "waiting";
  error: Failure | null = null;
  cutShort = false; // the model reached its limit
  /** RFC 3339, by the service's clock; null until it is known. */
  createdAt: string | null = null;
  /** Whether a voice was asked for; null where it is not known. */
  voiced: boolean | null = null;
  /** Asked in this window. */
  own = false;
  readonly timeline = new Timeline<TextEvent | Later>();

  constructor(readonly id: string) {}

  get ended(): boolean {
    return this.state === "complete" || this.state === "interrupted" || this.state === "failed";
  }
}

/**
 * The turns of one conversation, from its history and from the events that come live.
 *
 * Both may be told in any order and any number of times.
 */
export class Conversation {
  turns: Exchange[] = [];
  private readonly byId = new Map<string, Exchange>();

  constructor(readonly id: string) {}

  get(turnId: string): Exchange | undefined {
    return this.byId.get(turnId);
  }

  /** Those of which more is to come. */
  get open(): Exchange[] {
    return this.turns.filter((turn) => !turn.ended);
  }

  /** True while an event is held back because one before it is missing. */
  get gap(): boolean {
    return this.turns.some((turn) => !turn.ended && turn.timeline.gap);
  }

  /** True while a question is not known: somebody else asked it. */
  get needsHistory(): boolean {
    return this.turns.some((turn) => turn.question === null);
  }

  ask(turnId: string, question: string, voiced: boolean): Exchange {
    const turn = this.turn(turnId);
    Object.assign(turn, { question, voiced, own: true, state: "sending" });
    return turn;
  }

  /** The service has the request. */
  accepted(turnId: string): void {
    const turn = this.byId.get(turnId);
    if (turn?.state === "sending") turn.state = "waiting";
  }

  add(event: TextEvent | Later): void {
    const turn = this.turn(event.turn_id);
    if (turn.ended) return;
    for (const ready of turn.timeline.add(event.attempt, event.seq, event)) apply(turn, ready);
  }

  history(found: History): void {
    const answered = new Set<Exchange>();
    const order = new Set<Exchange>();
    // A request may bring several exchanges at once: only its last question is the turn's own.
    const questions = new Map<string, Message>();
    for (const message of found.messages) {
      if (message.role === "user") questions.set(message.turn_id, message);
    }
    let asked: Message | null = null;
    for (const message of found.messages) {
      if (message.role === "system") continue;
      if (message.role === "user") asked = message;
      const earlier = asked?.turn_id === message.turn_id && asked !== questions.get(message.turn_id);
      const turn = this.turn(earlier ? `~${(asked as Message).id}` : message.turn_id);
      order.add(turn);
      if (message.role === "assistant") answered.add(turn);
      take(turn, message);
      if (earlier) turn.state = "complete";
    }
    this.arrange([...order]);
    for (const turn of order) if (!answered.has(turn)) turn.kept = 0;
    const running = found.turn;
    if (running === null) return;
    const turn = this.turn(running.turn_id);
    if (turn.ended) return;
    if (turn.state !== "answering") turn.state = "answering";
    const behind =
      running.attempt > turn.timeline.attempt ||
      (running.attempt === turn.timeline.attempt && running.seq >= turn.timeline.expected);
    if (!behind) return;
    turn.text = running.text;
    for (const ready of turn.timeline.jump(running.attempt, running.seq + 1)) apply(turn, ready);
  }

  /** Begun and ended, and what ended it is kept nowhere. */
  lost(turn: Exchange): void {
    if (!turn.ended) turn.state = "failed";
  }

  /** The history's order; what it does not know stays behind what it followed. */
  private arrange(order: Exchange[]): void {
    const known = new Set(order);
    this.turns.forEach((turn, at) => {
      if (known.has(turn)) return;
      const before = this.turns[at - 1];
      const place = before ? order.indexOf(before) + 1 : order.length;
      order.splice(place || order.length, 0, turn);
      known.add(turn);
    });
    this.turns = order;
  }

  private turn(turnId: string): Exchange {
    let turn = this.byId.get(turnId);
    if (!turn) {
      turn = new Exchange(turnId);
      this.byId.set(turnId, turn);
      this.turns.push(turn);
    }
    return turn;
  }
}

/** One message of the history, which is older or newer than what came live. */
function take(turn: Exchange, { role, content, created_at, status }: Message): void {
  turn.createdAt ??= created_at;
  if (role === "user") {
    turn.question = content;
    return;
  }
  turn.question ??= "";
  const interrupted = status === "interrupted";
  if (!turn.ended || !turn.text.startsWith(content)) turn.text = content;
  turn.kept = interrupted ? content.length : null;
  turn.state = interrupted ? "interrupted" : "complete";
}

function apply(turn: Exchange, event: TextEvent | Later): void {
  switch (event.type) {
    case "started":
      turn.text = "";
      turn.state = "answering";
      turn.createdAt ??= event.created_at;
      turn.voiced = event.speech !== false;
      return;
    case "text":
      turn.text += event.text;
      turn.state = "answering";
      return;
    case "done":
      turn.text = event.text;
      turn.cutShort = event.finish_reason === "length";
      turn.state = event.finish_reason === "cancelled" ? "interrupted" : "complete";
      return;
    case "failed":
      turn.state = "failed";
      turn.error = event.error;
  }
}
