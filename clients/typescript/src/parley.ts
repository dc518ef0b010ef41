import { CHAT_ASK, HISTORY_DELETE, HISTORY_GET, TTS_REQUEST } from "./contract.ts";
import type { Asked, ChatRequest, Deleted, History, HistoryRequest, Link, Speech, SpeechRequest } from "./contract.ts";
import type { Connection, ConnectionState } from "./connection.ts";
import { ParleyError, deadlineExceeded } from "./errors.ts";
import { newId } from "./ids.ts";
import { LiveConversation } from "./live.ts";
import type { Position } from "./position.ts";
import type { Limits } from "./reader.ts";
import { Turn } from "./turn.ts";
import type { Platform } from "./turn.ts";

type Camel<S extends string> = S extends `${infer A}_${infer B}` ? `${A}${Capitalize<Camel<B>>}` : S;
type Camelled<T> = { [K in keyof T as K extends string ? Camel<K> : never]?: T[K] | undefined };

/** How a turn is read. */
export interface ReadOptions {
  /** Nothing new for so many milliseconds ends the reading with `DeadlineExceeded`; 120,000. */
  idleMs?: number | undefined;
  /** Other bounds of the reading. */
  limits?: Partial<Limits> | undefined;
}

/** How a question is asked: the fields of `chat.request`, in camelCase. */
export interface AskOptions extends Camelled<Omit<ChatRequest, "conversation_id" | "content">>, ReadOptions {
  /** Its id; by default a new one that nobody guesses. */
  conversation?: string | undefined;
  /** The turn's id, by which it is never answered twice; by default a new one. */
  turnId?: string | undefined;
  /** For so many milliseconds it is asked again where no answer comes; 60,000. */
  giveUpMs?: number | undefined;
  /** It is sent when this has settled: what has to come before it, such as a `cancel`. */
  after?: Promise<unknown> | undefined;
}

export interface SayOptions extends ReadOptions {
  conversation?: string | undefined;
  turnId?: string | undefined;
  speech?: Speech | undefined;
}

export interface FollowOptions extends ReadOptions {
  /** What is told by then is left out: `position` of a turn that was read before. */
  after?: Position | undefined;
}

export interface HistoryOptions {
  /** Messages of a page: 200, at most 1,000. */
  limit?: number | undefined;
  /** The page that is older than the one that said this. */
  before?: string | null | undefined;
}

const GIVE_UP_MS = 60_000;
const DELETE_MS = 30_000;
const OURS = ["conversation", "turnId", "giveUpMs", "after", "idleMs", "limits"];

/** Parley over NATS. */
export class Parley {
  constructor(
    protected readonly connection: Connection,
    protected readonly platform: Platform,
  ) {}

  get state(): ConnectionState {
    return this.connection.state;
  }

  /**
   * Asks, at once: the turn's events come in order, text and voice.
   *
   *     for await (const event of parley.ask("Why is the sky blue?")) {
   *       if (event.type === "text") process.stdout.write(event.text);
   *     }
   */
  ask(content: string, options: AskOptions = {}): Turn {
    const conversation = options.conversation ?? newId();
    const turn = options.turnId ?? newId();
    const request: ChatRequest = { ...snake(options), conversation_id: conversation, turn_id: turn };
    if (content || !request.messages) request.content = content;
    const voice = options.speech === false ? false : null;
    const facts = { conversation, turn, text: true, voice, limits: limits(options) };
    const giveUpMs = options.giveUpMs ?? GIVE_UP_MS;
    return new Turn(this.connection, this.platform, facts, async () => {
      await options.after?.catch(() => undefined);
      return await this.repeated(giveUpMs, (ms) =>
        this.connection.request<Asked>(`${CHAT_ASK}.${conversation}`, request, { id: turn, ms }),
      );
    });
  }

  /** Speaks a text, without a model: a turn that has a voice only. Tokens may not. */
  say(text: string, options: SayOptions = {}): Turn {
    const conversation = options.conversation ?? newId();
    const turn = options.turnId ?? newId();
    const request: SpeechRequest = {
      conversation_id: conversation, turn_id: turn, text, speech: options.speech ?? {},
    };
    const facts = { conversation, turn, text: false, voice: true, limits: limits(options) };
    return new Turn(this.connection, this.platform, facts, async () => {
      await this.repeated(GIVE_UP_MS, (ms) =>
        this.connection.request(`${TTS_REQUEST}.${conversation}`, request, { id: turn, ms }),
      );
      return { conversation_id: conversation, turn_id: turn, state: "queued" };
    });
  }

  /** A turn that somebody asked: from its beginning, or from a `Position` on, and on as it is said. */
  follow(conversation: string, turn: string, options: FollowOptions = {}): Turn {
    const { after } = options;
    const facts = { conversation, turn, text: true, voice: null, after, limits: limits(options) };
    return new Turn(this.connection, this.platform, facts, null);
  }

  /** The conversation's pages, the newest first; the messages of each are oldest first. */
  async *history(conversation: string, options: HistoryOptions = {}): AsyncGenerator<History, void, undefined> {
    const limit = options.limit === undefined ? {} : { limit: options.limit };
    let before = options.before ?? null;
    do {
      const wanted: HistoryRequest = { ...limit, ...(before === null ? {} : { before }) };
      const page = await this.repeated(GIVE_UP_MS, (ms) =>
        this.connection.request<History>(`${HISTORY_GET}.${conversation}`, wanted, { ms }),
      );
      yield page;
      before = page.before ?? null;
    } while (before !== null);
  }

  /** As `Turn.cancel`, of a turn that somebody asked. */
  async cancel(conversation: string, turn: string, options: { heardMs?: number | undefined } = {}): Promise<void> {
    await this.follow(conversation, turn).cancel(options);
  }

  /** Erases a conversation everywhere; returns when nothing is left of it. */
  async delete(conversation: string): Promise<void> {
    const subject = `${HISTORY_DELETE}.${conversation}`;
    await this.connection.request<Deleted>(subject, { conversation_id: conversation }, { ms: DELETE_MS });
  }

  /** Where the stored voice of a turn is, freshly signed. Throws `NotFound` where there is none. */
  async link(conversation: string, turn: string): Promise<Link> {
    return await this.follow(conversation, turn).link();
  }

  /** A conversation as it stands, kept up to date: who asks what, and how far it is answered. */
  conversation(id: string, onChange: () => void = () => undefined): LiveConversation {
    return new LiveConversation(this, this.connection, id, onChange);
  }

  /** The machine has a network again: the next try to connect comes at once. */
  wake(): void {
    this.connection.wake();
  }

  /** What was said last is still sent. What is being read ends with `Unreachable`. */
  async close(): Promise<void> {
    await this.connection.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Asks again, where no answer came and doing it twice is harmless, until it is answered or too late. */
  private async repeated<T>(giveUpMs: number, request: (ms: number) => Promise<T>): Promise<T> {
    const until = performance.now() + giveUpMs;
    for (let pause = 250; ; pause = Math.min(pause * 2, 4_000)) {
      const left = until - performance.now();
      try {
        return await request(Math.max(Math.min(left, 5_000), 100));
      } catch (error) {
        if (!isPassing(error) || this.connection.closed) throw error;
        if (left <= pause) throw deadlineExceeded(`not answered within ${giveUpMs / 1_000} s`, error);
      }
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

/** To ask again may help; who is told that it is too much should not at once. */
function isPassing(error: unknown): boolean {
  return error instanceof ParleyError && error.retryable && error.code !== "busy";
}

function limits({ idleMs, limits }: ReadOptions): Partial<Limits> {
  return { ...limits, ...(idleMs === undefined ? {} : { idleMs }) };
}

function snake(options: AskOptions): ChatRequest {
  const given = Object.entries(options).filter(([name, value]) => value !== undefined && !OURS.includes(name));
  return Object.fromEntries(given.map(([name, value]) => [name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`), value]));
}
