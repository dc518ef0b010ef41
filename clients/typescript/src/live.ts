import { CHAT_DELTA } from "./contract.ts";
import type { Code, History, Message } from "./contract.ts";
import type { Connection } from "./connection.ts";
import { Conversation } from "./conversation.ts";
import type { Exchange } from "./conversation.ts";
import { ParleyError, internal } from "./errors.ts";
import { textEvent } from "./events.ts";
import type { Incoming } from "./events.ts";
import { newId } from "./ids.ts";
import type { AskOptions, Parley } from "./parley.ts";
import type { Turn } from "./turn.ts";

const QUIET_MS = 3_000; // a look at what is kept when nothing came for so long
const GAP_MS = 60; // what overtook the store is there after this long
const IDLE_MS = 900_000; // a question may wait for others, and for a connection
const LOST_AFTER = 2; // looks that found a turn neither under way nor ended

/**
 * A conversation as it stands: its history, and what anybody asks in it from now on.
 *
 * `onChange` is called whenever `turns` say something new; nothing is ever thrown away from under it.
 */
export class LiveConversation {
  private readonly known: Conversation;
  /** Nothing is known yet. */
  loading = true;
  private readonly looks = new Map<string, number>();
  private readonly ends: (() => void)[] = [];
  private closed = false;
  private kept: Message[] = []; // all of the history that is known, oldest first
  private syncing: Promise<void> | null = null;
  private syncAgain = false;
  private heardAt = Date.now();
  private gapTimer: ReturnType<typeof setTimeout> | null = null;

  constructor(
    private readonly parley: Parley,
    private readonly connection: Connection,
    id: string,
    private readonly onChange: () => void,
  ) {
    this.known = new Conversation(id);
    this.ends.push(
      connection.subscribe(`${CHAT_DELTA}.${id}`, (message) => this.hear(message)),
      connection.onConnected(() => void this.sync()),
    );
    const timer = setInterval(() => this.look(), 1_000);
    this.ends.push(() => clearInterval(timer));
    if (connection.connected) void this.sync();
  }

  get id(): string {
    return this.known.id;
  }

  /** Questions and their answers, oldest first. */
  get turns(): readonly Exchange[] {
    return this.known.turns;
  }

  /** Those of which more is to come. */
  get open(): readonly Exchange[] {
    return this.known.open;
  }

  get(turnId: string): Exchange | undefined {
    return this.known.get(turnId);
  }

  close(): void {
    this.closed = true;
    for (const end of this.ends) end();
    if (this.gapTimer) clearTimeout(this.gapTimer);
  }

  /** Asks until there is an answer; meanwhile its exchange is `sending`. */
  ask(content: string, options: Omit<AskOptions, "conversation"> = {}): Turn {
    const turnId = options.turnId ?? newId();
    this.known.ask(turnId, content, options.speech !== false);
    const turn = this.parley.ask(content, {
      giveUpMs: Infinity, idleMs: IDLE_MS, ...options, conversation: this.id, turnId,
    });
    turn.accepted().then(
      () => this.accepted(turnId),
      (why: unknown) => this.refused(turnId, why),
    );
    this.onChange();
    return turn;
  }

  private accepted(turnId: string): void {
    this.known.accepted(turnId);
    this.heardAt = Date.now();
    this.onChange();
  }

  private refused(turnId: string, why: unknown): void {
    if (!(why instanceof ParleyError) || this.closed) return;
    const { message, retryable } = why;
    const code = why.code as Code; // or one of the client's own, which says as much
    this.known.add({
      type: "failed", conversation_id: this.id, turn_id: turnId, attempt: 1, seq: 0,
      error: { code, message, retryable },
    });
    this.onChange();
  }

  /** Stops a turn; the history then keeps what was heard of its voice, or all of its text. */
  async cancel(turnId: string, options: { heardMs?: number | undefined } = {}): Promise<void> {
    try {
      await this.parley.cancel(this.id, turnId, options);
    } finally {
      void this.sync();
    }
  }

  // ---------------------------------------------------------------- what is heard, and what was missed

  private hear(message: Incoming): void {
    this.heardAt = Date.now();
    const event = textEvent(message);
    if (event === null) return;
    this.known.add(event);
    if (event.type === "done" && event.finish_reason === "cancelled") void this.sync();
    else if (this.known.needsHistory) void this.sync();
    if (this.known.gap) this.gapTimer ??= setTimeout(() => this.fillGap(), GAP_MS);
    this.onChange();
  }

  private fillGap(): void {
    this.gapTimer = null;
    if (this.known.gap) void this.sync();
  }

  /** Now and then: what has been silent for a while may have been missed. */
  private look(): void {
    const open = this.known.open.some((turn) => turn.state !== "sending");
    if ((this.loading || open) && Date.now() - this.heardAt > QUIET_MS) void this.sync();
  }

  /** Reads the history and, of turns that are not over, the events; one look at a time. */
  private sync(): Promise<void> {
    if (this.syncing) {
      this.syncAgain = true;
      return this.syncing;
    }
    this.syncing = this.syncOnce().finally(() => {
      this.syncing = null;
      this.heardAt = Date.now();
      if (this.syncAgain && !this.closed) {
        this.syncAgain = false;
        void this.sync();
      }
      this.onChange();
    });
    return this.syncing;
  }

  /** What cannot be read now is read when it has been quiet for a while. */
  private async syncOnce(): Promise<void> {
    if (this.closed || !this.connection.connected) return;
    try {
      await this.connection.flush();
      await this.read();
    } catch (error) {
      if (!(error instanceof ParleyError) && this.connection.connected) throw error;
    }
  }

  private async read(): Promise<void> {
    const { known } = this;
    const unknown = known.turns.filter((turn) => turn.question === null);
    const found = await this.history();
    known.history(found);
    this.loading = false;
    // It is in the history before the first event is published, unless it is never kept.
    for (const turn of unknown) turn.question ??= "";
    const open = known.open.filter((turn) => turn.state !== "sending");
    if (!open.length) return;
    this.onChange();
    for (const turn of open) {
      await this.connection.replay(this.id, { what: "delta", turn_id: turn.id }, (message) => {
        const event = textEvent(message);
        if (event) known.add(event);
        return !this.closed;
      });
    }
    this.giveUpLost(open, found);
  }

  private giveUpLost(open: readonly Exchange[], found: History): void {
    const said = new Set(found.messages.map((message) => message.turn_id));
    for (const turn of open) {
      if (turn.ended || !said.has(turn.id) || found.turn?.turn_id === turn.id) continue;
      const looks = (this.looks.get(turn.id) ?? 0) + 1;
      this.looks.set(turn.id, looks);
      if (looks >= LOST_AFTER) this.known.lost(turn);
    }
  }

  /** The whole history: the newest page, and older ones as far as they are not known. */
  private async history(): Promise<History> {
    let newest: History | null = null;
    let messages: Message[] = [];
    for await (const page of this.parley.history(this.id)) {
      newest ??= page;
      messages = [...page.messages, ...messages];
      const first = messages[0]?.id;
      const known = this.kept.findIndex((message) => message.id === first);
      if (known >= 0) messages = [...this.kept.slice(0, known), ...messages];
      if (known >= 0 || !page.messages.length || this.closed) break;
    }
    if (newest === null) throw internal("a history without a page");
    this.kept = messages;
    return { ...newest, messages };
  }
}
