import { createInbox, credsAuthenticator, errors, headers, nkeyAuthenticator } from "@nats-io/nats-core";
import type { ConnectionOptions, Msg, NatsConnection } from "@nats-io/nats-core";

import { CHAT_REPLAY, H_NEXT, H_SEQUENCE, MSG_ID } from "./contract.ts";
import type { Refusal, ReplayRequest } from "./contract.ts";
import { ParleyError, deadlineExceeded, fromError, unauthorized, unreachable } from "./errors.ts";
import type { Unauthorized } from "./errors.ts";
import type { Incoming } from "./events.ts";
import type { Starts } from "./reader.ts";

/** `lost`: it was there, and is being made again; `refused`: the server is not there, or lets nobody in. */
export type ConnectionState = "connecting" | "connected" | "lost" | "refused" | "closed";

/** Who connects, and how. Without a login the server has to want none. */
export interface ConnectOptions {
  /** For conversations: a conversation token, or what fetches a new one each time that it connects. */
  token?: string | (() => string | Promise<string>) | undefined;
  user?: string | undefined;
  password?: string | undefined;
  /** The text of a NATS credentials file; in Node its path, too. */
  creds?: string | undefined;
  /** The seed of an nkey. */
  nkey?: string | undefined;
  /** How `connect` and each request wait, in milliseconds; 5,000. */
  timeoutMs?: number | undefined;
  /** The connection's name, as an operator sees it; `parley`. */
  name?: string | undefined;
  onConnection?: ((state: ConnectionState) => void) | undefined;
  /** Further options of `@nats-io/nats-core`, `tls` among them. */
  nats?: Partial<ConnectionOptions> | undefined;
}

/** How a connection is made, by the server's address. */
export type Dial = (options: ConnectionOptions) => Promise<NatsConnection>;

interface Listener {
  take: (message: Msg) => void;
  denied: (why: Unauthorized) => void;
}

const TIMEOUT_MS = 5_000;
const MOST_KNOWN = 10_000; // conversations
const RETRY_MS = 3_000; // after a try that failed
const AGAIN_MS = 500; // after an end, of a token for instance
const INBOX_CHARACTERS = 22; // of a token's signature: they are nobody else's

/** NATS, for ever: it connects again whenever it has to, and its subscriptions stay. */
export class Connection {
  state: ConnectionState = "connecting";
  /** Why it is not connected. */
  private why: unknown = null;
  private client: NatsConnection | null = null;
  private inboxPrefix = "_INBOX";
  private readonly timeoutMs: number;
  private readonly wanted = new Map<string, Set<Listener>>();
  private readonly begun = new Map<string, () => void>();
  private readonly onConnects = new Set<() => void>();
  private readonly onStates = new Set<(state: ConnectionState) => void>();
  private readonly onDenied = new Set<(subject: string, why: Unauthorized) => void>();
  /** How far streams were read: a turn that is asked later lies behind that. */
  readonly known = new Known();
  private wakeUp: () => void = () => undefined;

  constructor(
    private readonly url: string,
    private readonly options: ConnectOptions,
    private readonly dial: Dial,
  ) {
    this.timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
    if (options.onConnection) this.onStates.add(options.onConnection);
    void this.run();
  }

  get connected(): boolean {
    return this.state === "connected";
  }

  get closed(): boolean {
    return this.state === "closed";
  }

  // ---------------------------------------------------------------- its life

  /** Until it is closed. */
  private async run(): Promise<void> {
    while (!this.closed) {
      const began = await this.once();
      this.client = null;
      if (this.closed) return;
      this.become(began ? "lost" : "refused");
      await this.pause(began ? AGAIN_MS : RETRY_MS);
    }
  }

  /** One client from its connect to its end; false where it never connected. */
  private async once(): Promise<boolean> {
    let client: NatsConnection;
    try {
      client = await this.dial(await this.dialled());
    } catch (error) {
      this.why = error;
      return false;
    }
    if (this.closed) {
      await client.close();
      return true;
    }
    this.client = client;
    this.known.forget();
    for (const subject of this.wanted.keys()) this.begin(subject);
    this.become("connected");
    void this.watch(client);
    this.why = await client.closed();
    return true;
  }

  /** Until it is over, or somebody wakes it. */
  private async pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.wakeUp = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  private async dialled(): Promise<ConnectionOptions> {
    const login = await this.login();
    this.inboxPrefix = login.inboxPrefix ?? "_INBOX";
    return {
      servers: this.url.split(","),
      name: this.options.name ?? "parley",
      // The servers of a cluster may have addresses that a browser cannot reach.
      ignoreClusterUpdates: true,
      maxReconnectAttempts: -1,
      reconnectDelayHandler: () => 400 + Math.random() * 800,
      timeout: this.timeoutMs,
      // A dead connection is found within 20 s.
      pingInterval: 10_000,
      maxPingOut: 2,
      ...login,
      ...this.options.nats,
    };
  }

  private async login(): Promise<Partial<ConnectionOptions>> {
    const { token: given, user, password, creds, nkey } = this.options;
    if (given !== undefined) {
      const token = typeof given === "string" ? given : await given();
      const parts = token.split(".");
      // A conversation token opens these inboxes and no others.
      const own = parts.length === 3 && { inboxPrefix: `_INBOX_${(parts[2] as string).slice(0, INBOX_CHARACTERS)}` };
      return { token, ...own };
    }
    const bytes = new TextEncoder();
    if (creds !== undefined) return { authenticator: credsAuthenticator(bytes.encode(creds)) };
    if (nkey !== undefined) return { authenticator: nkeyAuthenticator(bytes.encode(nkey)) };
    return user === undefined ? {} : { user, pass: password ?? "" };
  }

  private async watch(client: NatsConnection): Promise<void> {
    for await (const status of client.status()) {
      if (status.type === "disconnect") this.become("lost");
      else if (status.type === "reconnect") this.become("connected");
      else if (status.type === "error") this.denied(status.error);
    }
  }

  /** What is published tells nobody that it may not be. */
  private denied(error: Error): void {
    this.why = error;
    if (!(error instanceof errors.PermissionViolationError)) return;
    for (const tell of [...this.onDenied]) tell(error.subject, unauthorized(error));
  }

  private become(state: ConnectionState): void {
    if (this.closed) return;
    this.state = state;
    for (const tell of [...this.onStates]) tell(state);
    if (state === "connected") for (const tell of [...this.onConnects]) tell();
  }

  /** Resolves with the first connection; rejects when the first try fails. */
  async ready(): Promise<void> {
    if (this.state === "connecting") {
      await new Promise<void>((resolve) => {
        const tell = (): void => {
          this.onStates.delete(tell);
          resolve();
        };
        this.onStates.add(tell);
      });
    }
    if (!this.connected) throw this.absent();
  }

  /** Nobody is let in without a login that is known. */
  private absent(): ParleyError {
    const { why } = this;
    if (why instanceof ParleyError) return why;
    const denied = why instanceof errors.AuthorizationError || why instanceof errors.UserAuthenticationExpiredError;
    if (denied) return unauthorized(why);
    return unreachable(`not connected to NATS${why instanceof Error ? `: ${why.message}` : ""}`, why);
  }

  /** The machine has a network again: the next try comes at once. */
  wake(): void {
    this.wakeUp();
    if (this.state === "lost") void this.client?.reconnect().catch(() => undefined);
  }

  /** What was said last is still sent. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.become("closed");
    this.wakeUp();
    const { client } = this;
    this.client = null;
    if (client === null) return;
    const late = new Promise((resolve) => setTimeout(resolve, this.timeoutMs).unref?.());
    await Promise.race([client.drain().catch(() => undefined), late]);
    await client.close().catch(() => undefined);
  }

  onConnected(listener: () => void): () => void {
    this.onConnects.add(listener);
    return () => this.onConnects.delete(listener);
  }

  onClosed(listener: () => void): () => void {
    const tell = (state: ConnectionState): void => {
      if (state === "closed") listener();
    };
    this.onStates.add(tell);
    return () => this.onStates.delete(tell);
  }

  // ---------------------------------------------------------------- messages

  subscribe(
    subject: string,
    take: (message: Msg) => void,
    denied: (why: Unauthorized) => void = () => undefined,
  ): () => void {
    const listener = { take, denied };
    const listeners = this.wanted.get(subject) ?? new Set();
    this.wanted.set(subject, listeners);
    listeners.add(listener);
    if (listeners.size === 1) this.begin(subject);
    return () => {
      listeners.delete(listener);
      if (listeners.size || this.wanted.get(subject) !== listeners) return;
      this.wanted.delete(subject);
      this.begun.get(subject)?.();
      this.begun.delete(subject);
    };
  }

  private begin(subject: string): void {
    if (this.client === null) return; // it is begun when there is one
    const subscription = this.client.subscribe(subject, {
      callback: (error, msg) => {
        for (const { take, denied } of [...(this.wanted.get(subject) ?? [])]) {
          if (error) denied(unauthorized(error));
          else take(msg);
        }
      },
    });
    this.begun.set(subject, () => subscription.unsubscribe());
  }

  /** What the server that is connected to knows of all that was subscribed and sent before. */
  async flush(): Promise<void> {
    await this.present().flush();
  }

  /** The answer; throws what it refuses with, `DeadlineExceeded`, `Unreachable`, `Unauthorized`. */
  async request<T extends object>(subject: string, body: object, options: { id?: string; ms?: number } = {}): Promise<T> {
    const carried = headers();
    if (options.id) carried.set(MSG_ID, options.id);
    const client = this.present();
    const timeout = options.ms ?? this.timeoutMs;
    let answer: Msg;
    try {
      answer = await client.request(subject, JSON.stringify(body), { timeout, headers: carried });
    } catch (error) {
      throw translated(error, subject);
    }
    const found = (answer.data.length ? answer.json() : {}) as T | Refusal | StreamRefusal;
    if ("error" in found && found.error) throw refused(found.error);
    return found as T;
  }

  /**
   * What there is of a conversation, oldest first, until `take` returns false; true where that was
   * all. Throws as `request` does.
   */
  async replay(conversation: string, wanted: ReplayRequest, take: (message: Incoming) => boolean): Promise<boolean> {
    let left = false;
    const taking = (message: Incoming): boolean => {
      this.known.note(conversation, wanted.what, Number(message.headers?.get(H_SEQUENCE)));
      left = !take(message);
      return !left;
    };
    for (let from = wanted.from ?? 1; from > 0 && !left; ) {
      from = await this.replayOnce(conversation, { ...wanted, from }, taking);
    }
    return !left;
  }

  /** Returns where the next one goes on; 0 at the end. */
  private replayOnce(conversation: string, wanted: ReplayRequest, take: (message: Incoming) => boolean): Promise<number> {
    const client = this.present();
    const inbox = createInbox(this.inboxPrefix);
    const subject = `${CHAT_REPLAY}.${conversation}`;
    return new Promise<number>((resolve, reject) => {
      const end = (act: () => void): void => {
        clearTimeout(timer);
        this.onDenied.delete(denied);
        subscription.unsubscribe();
        act();
      };
      const denied = (refused: string, why: Unauthorized): void => {
        if (refused === subject) end(() => reject(why));
      };
      this.onDenied.add(denied);
      const late = (): void => end(() => reject(deadlineExceeded("the replay did not come in time")));
      let timer = setTimeout(late, this.timeoutMs);
      const subscription = client.subscribe(inbox, {
        callback: (error, msg) => {
          if (error) return end(() => reject(translated(error, CHAT_REPLAY)));
          const next = msg.headers?.get(H_NEXT);
          if (next) return end(() => resolve(Number(next)));
          if (!msg.headers?.get(H_SEQUENCE)) return end(() => reject(refusal(msg)));
          if (!take(msg)) return end(() => resolve(0));
          clearTimeout(timer);
          timer = setTimeout(late, this.timeoutMs); // a slow line is not a dead one
        },
      });
      // Behind all that was subscribed before: the server knows of it when it reads this.
      client.publish(subject, JSON.stringify(wanted), { reply: inbox });
    });
  }

  private present(): NatsConnection {
    if (this.client === null || !this.connected) throw this.absent();
    return this.client;
  }
}

class Known {
  private readonly starts = new Map<string, Starts>();

  /** Where a turn of the conversation that is asked now begins at the earliest. */
  behind(conversation: string): Starts {
    return { ...(this.starts.get(conversation) ?? { delta: 1, audio: 1 }) };
  }

  /** They are read from the beginning again. */
  forget(): void {
    this.starts.clear();
  }

  note(conversation: string, what: keyof Starts, sequence: number): void {
    const starts = this.behind(conversation);
    starts[what] = Math.max(starts[what], sequence + 1);
    if (this.starts.size > MOST_KNOWN) this.forget();
    this.starts.set(conversation, starts);
  }
}

function refusal(msg: Msg): ParleyError {
  if (msg.headers?.code === 503) return unreachable("nobody replays: no chat service is there");
  return refused(msg.json<Refusal>().error);
}

/** The answer of a stream that takes no more, or not this. */
interface StreamRefusal {
  error: { code: number; description: string };
}

function refused(error: (Refusal | StreamRefusal)["error"]): ParleyError {
  if ("message" in error) return fromError(error);
  const code = error.code >= 500 ? "storage_unavailable" : "internal";
  return fromError({ code, message: error.description, retryable: code !== "internal" });
}

function translated(error: unknown, subject: string): ParleyError {
  if (error instanceof errors.TimeoutError) return deadlineExceeded(`nobody answered ${subject} in time`, error);
  const cause = error instanceof errors.RequestError ? (error.cause ?? error) : error;
  if (cause instanceof errors.PermissionViolationError) return unauthorized(cause);
  if (error instanceof errors.RequestError && error.isNoResponders()) {
    return unreachable(`nobody answers ${subject}: no service is there`, cause);
  }
  return unreachable(error instanceof Error ? error.message : String(error), cause);
}
