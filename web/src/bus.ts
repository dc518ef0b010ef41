import { createInbox, headers, wsconnect } from "@nats-io/nats-core";
import type { Msg, NatsConnection } from "@nats-io/nats-core";

export type Connection = "connecting" | "connected" | "lost" | "refused";

/** The page's config.json. */
export interface Config {
  nats_url: string;
  nats_user?: string;
  nats_password?: string;
  voices?: { id: string; name: string }[];
}

/** From where a stream is read: a sequence, or a time of the server. */
export type Where = { seq: number } | { start_time: string };

const REQUEST_MS = 5_000;
const RETRY_MS = 3_000;
const BATCH = 256;
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** NATS over a WebSocket. It reconnects for ever; its subscriptions stay. */
export class Bus {
  connection: Connection = "connecting";
  private client: NatsConnection | null = null;
  private readonly wanted = new Map<string, (msg: Msg) => void>();

  constructor(
    private readonly config: Config,
    private readonly onConnection: (connection: Connection) => void,
  ) {}

  /** Until the page is closed. */
  async run(): Promise<never> {
    for (;;) {
      try {
        this.client = await wsconnect(this.options());
        for (const [subject, take] of this.wanted) this.begin(subject, take);
        this.become("connected");
        void this.watch(this.client);
        await this.client.closed();
      } catch (error) {
        console.warn("bus.refused", error);
      }
      this.client = null;
      this.become("refused");
      await wait(RETRY_MS);
    }
  }

  private options() {
    const { nats_url, nats_user, nats_password } = this.config;
    return {
      servers: nats_url,
      name: "parley-web",
      ...(nats_user ? { user: nats_user, pass: nats_password ?? "" } : {}),
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

  private async watch(client: NatsConnection): Promise<void> {
    for await (const status of client.status()) {
      if (status.type === "disconnect") this.become("lost");
      else if (status.type === "reconnect") this.become("connected");
      else if (status.type === "error") console.warn("bus.error", status.error);
    }
  }

  private become(connection: Connection): void {
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
   * What a stream holds of a subject, oldest first: direct get in batches. It ends when `take`
   * returns false, or with the last message.
   */
  async readBack(stream: string, subject: string, where: Where, take: (msg: Msg) => boolean): Promise<void> {
    for (let from: Where | null = where; from !== null; ) {
      const got: Msg[] = await this.batch(stream, { ...from, next_by_subj: subject, batch: BATCH });
      for (const msg of got) if (!take(msg)) return;
      const last = got.at(-1)?.headers;
      // A batch may end early, at a limit of bytes; only this header says what is left.
      const left = last && last.get("Nats-Num-Pending") !== "0";
      from = left ? { seq: Number(last.get("Nats-Sequence")) + 1 } : null;
    }
  }

  /** The newest message of a subject; null when the stream holds none. */
  async last(stream: string, subject: string): Promise<Msg | null> {
    const got = await this.present().request(
      `$JS.API.DIRECT.GET.${stream}`,
      JSON.stringify({ last_by_subj: subject }),
      { timeout: REQUEST_MS },
    );
    return got.headers?.get("Nats-Sequence") ? got : null;
  }

  private batch(stream: string, body: object): Promise<Msg[]> {
    const client = this.present();
    const inbox = createInbox();
    const got: Msg[] = [];
    return new Promise<Msg[]>((resolve, reject) => {
      const end = (act: () => void): void => {
        clearTimeout(timer);
        subscription.unsubscribe();
        act();
      };
      const late = (): void => end(() => reject(new Error(`${stream} did not answer in time`)));
      let timer = setTimeout(late, REQUEST_MS);
      const subscription = client.subscribe(inbox, {
        callback: (error, msg) => {
          if (error) return end(() => reject(error));
          if (msg.headers?.get("Nats-Sequence")) {
            got.push(msg);
            clearTimeout(timer);
            timer = setTimeout(late, REQUEST_MS); // a slow line is not a dead one
            return;
          }
          // 204: the end of the batch; 404: nothing (more) there.
          const code = msg.headers?.code;
          if (code === 204 || code === 404) return end(() => resolve(got));
          end(() => reject(new Error(`${stream}: ${code} ${msg.headers?.description ?? ""}`)));
        },
      });
      client.publish(`$JS.API.DIRECT.GET.${stream}`, JSON.stringify(body), { reply: inbox });
    });
  }

  private present(): NatsConnection {
    if (this.client === null || this.connection !== "connected") throw new Error("not connected");
    return this.client;
  }
}
