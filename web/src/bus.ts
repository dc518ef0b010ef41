import { createInbox, headers, wsconnect } from "@nats-io/nats-core";
import type { Msg, NatsConnection } from "@nats-io/nats-core";

import { CHAT_REPLAY, H_NEXT, H_SEQUENCE } from "./contract.ts";
import type { Refusal, ReplayRequest } from "./contract.ts";

export type Connection = "connecting" | "connected" | "lost" | "refused";

/** The page's config.json. */
export interface Config {
  nats_url: string;
  nats_user?: string;
  nats_password?: string;
  /** Where a token for a conversation can be had, in the place of a login. */
  token_url?: string;
  voices?: { id: string; name: string }[];
}

const REQUEST_MS = 5_000;
const RETRY_MS = 3_000;
const INBOX_CHARACTERS = 22; // of a token's signature: they are nobody else's
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** NATS over a WebSocket, for one conversation. It reconnects for ever; its subscriptions stay. */
export class Bus {
  connection: Connection = "connecting";
  private client: NatsConnection | null = null;
  private inboxPrefix = "_INBOX";
  private closed = false;
  private readonly wanted = new Map<string, (msg: Msg) => void>();

  constructor(
    private readonly config: Config,
    private readonly conversationId: string,
    private readonly onConnection: (connection: Connection) => void,
  ) {}

  /** Until it is closed. */
  async run(): Promise<void> {
    while (!this.closed) {
      try {
        const client = await wsconnect(await this.options());
        if (this.isClosed()) return await client.close();
        this.client = client;
        for (const [subject, take] of this.wanted) this.begin(subject, take);
        this.become("connected");
        void this.watch(client);
        await client.closed();
      } catch (error) {
        console.warn("bus.refused", error);
      }
      this.client = null;
      this.become("refused");
      await wait(RETRY_MS);
    }
  }

  close(): void {
    this.closed = true;
    void this.client?.drain(); // what was said last is still sent
  }

  /** It may have become so while something was waited for. */
  private isClosed(): boolean {
    return this.closed;
  }

  private async options() {
    const { nats_url, token_url } = this.config;
    const login = token_url ? await this.shown(token_url) : this.login();
    this.inboxPrefix = "inboxPrefix" in login ? login.inboxPrefix : "_INBOX";
    return {
      servers: nats_url,
      name: "parley-web",
      ...login,
      // The servers of a cluster may have addresses that a browser cannot reach.
      ignoreClusterUpdates: true,
      maxReconnectAttempts: -1,
      reconnectDelayHandler: () => 400 + Math.random() * 800,
      waitOnFirstConnect: true,
      timeout: REQUEST_MS,
      // A dead connection is found within 20 s.
      pingInterval: 10_000,
      maxPingOut: 2,
    };
  }

  private login() {
    const { nats_user, nats_password } = this.config;
    return nats_user ? { user: nats_user, pass: nats_password ?? "" } : {};
  }

  /** A token for this conversation, and the inboxes that go with it. */
  private async shown(url: string): Promise<{ token: string; inboxPrefix: string }> {
    const answer = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ conversation_id: this.conversationId }),
      signal: AbortSignal.timeout(REQUEST_MS),
    });
    if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
    const { token } = (await answer.json()) as { token: string };
    const signature = token.slice(token.lastIndexOf(".") + 1);
    return { token, inboxPrefix: `_INBOX_${signature.slice(0, INBOX_CHARACTERS)}` };
  }

  private async watch(client: NatsConnection): Promise<void> {
    for await (const status of client.status()) {
      if (status.type === "disconnect") this.become("lost");
      else if (status.type === "reconnect") this.become("connected");
      else if (status.type === "error") console.warn("bus.error", status.error);
    }
  }

  private become(connection: Connection): void {
    if (this.closed) return;
    this.connection = connection;
    this.onConnection(connection);
  }

  /** The machine has a network again: the next try comes at once. */
  wake(): void {
    if (this.connection !== "refused") void this.client?.reconnect().catch(() => undefined);
  }

  /** Hears a subject from now on, over every reconnect. */
  subscribe(subject: string, take: (msg: Msg) => void): () => void {
    this.wanted.set(subject, take);
    let stop = this.begin(subject, take);
    return () => {
      this.wanted.delete(subject);
      stop();
      stop = () => undefined;
    };
  }

  private begin(subject: string, take: (msg: Msg) => void): () => void {
    const subscription = this.client?.subscribe(subject, {
      callback: (error, msg) => {
        if (error) console.warn("bus.not_subscribed", subject, error);
        else if (this.wanted.get(subject) === take) take(msg);
      },
    });
    return () => subscription?.unsubscribe();
  }

  /** Returns when the server knows all subscriptions. */
  async settle(): Promise<void> {
    await this.present().flush();
  }

  /** Asks; throws when nobody answers in time. */
  async request<T>(subject: string, body: unknown, options: { id?: string; ms?: number } = {}): Promise<T> {
    const carried = headers();
    if (options.id) carried.set("Nats-Msg-Id", options.id);
    const answer = await this.present().request(subject, JSON.stringify(body), {
      timeout: options.ms ?? REQUEST_MS,
      headers: carried,
    });
    return answer.json<T>();
  }

  /**
   * What there is of the conversation, oldest first. It ends when `take` returns false, or with the
   * last message.
   */
  async replay(wanted: ReplayRequest, take: (msg: Msg) => boolean): Promise<void> {
    for (let from = wanted.from ?? 1; from > 0; ) {
      from = await this.replayOnce({ ...wanted, from }, take);
    }
  }

  /** Returns where the next one goes on; 0 at the end. */
  private replayOnce(wanted: ReplayRequest, take: (msg: Msg) => boolean): Promise<number> {
    const client = this.present();
    const inbox = createInbox(this.inboxPrefix);
    return new Promise<number>((resolve, reject) => {
      const end = (act: () => void): void => {
        clearTimeout(timer);
        subscription.unsubscribe();
        act();
      };
      const late = (): void => end(() => reject(new Error("the replay did not come in time")));
      let timer = setTimeout(late, REQUEST_MS);
      const subscription = client.subscribe(inbox, {
        callback: (error, msg) => {
          if (error) return end(() => reject(error));
          const next = msg.headers?.get(H_NEXT);
          if (next) return end(() => resolve(Number(next)));
          if (!msg.headers?.get(H_SEQUENCE)) return end(() => reject(new Error(refusal(msg))));
          if (!take(msg)) return end(() => resolve(0));
          clearTimeout(timer);
          timer = setTimeout(late, REQUEST_MS); // a slow line is not a dead one
        },
      });
      const subject = `${CHAT_REPLAY}.${this.conversationId}`;
      client.publish(subject, JSON.stringify(wanted), { reply: inbox });
    });
  }

  private present(): NatsConnection {
    if (this.client === null || this.connection !== "connected") throw new Error("not connected");
    return this.client;
  }
}

function refusal(msg: Msg): string {
  if (msg.headers?.code === 503) return "nobody replays";
  return msg.json<Refusal>().error.message;
}
