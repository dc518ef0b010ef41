import assert from "node:assert/strict";
import { test } from "node:test";
import type { TestContext } from "node:test";

import { errors } from "@nats-io/nats-core";
import type { ConnectionOptions, Msg, NatsConnection } from "@nats-io/nats-core";

import { Connection } from "../src/connection.ts";
import type { ConnectOptions, ConnectionState } from "../src/connection.ts";
import { Busy, DeadlineExceeded, StorageUnavailable, Unauthorized, Unreachable } from "../src/errors.ts";

/** A client of NATS without a server: what it is asked it answers as it was told. */
class Client {
  readonly subjects: string[] = [];
  answer: object | Error = {};
  private end: (why?: Error) => void = () => undefined;
  private readonly over = new Promise<Error | undefined>((resolve) => (this.end = resolve));

  closed = (): Promise<Error | undefined> => this.over;
  close = async (why?: Error): Promise<void> => this.end(why);
  drain = async (): Promise<void> => this.end();
  async *status(): AsyncGenerator<never> {}

  subscribe(subject: string) {
    this.subjects.push(subject);
    return { unsubscribe: () => this.subjects.splice(this.subjects.indexOf(subject), 1) };
  }

  async request(): Promise<Msg> {
    if (this.answer instanceof Error) throw this.answer;
    const text = JSON.stringify(this.answer);
    return { data: new TextEncoder().encode(text), json: () => JSON.parse(text) } as Msg;
  }
}

/** Connects to these clients, one after the other; an error refuses. */
function connection(t: TestContext, clients: (Client | Error)[], options: ConnectOptions = {}) {
  const dialled: ConnectionOptions[] = [];
  const states: ConnectionState[] = [];
  const dial = async (how: ConnectionOptions): Promise<NatsConnection> => {
    dialled.push(how);
    const next = clients.shift() ?? new Error("nobody listens");
    if (next instanceof Error) throw next;
    return next as unknown as NatsConnection;
  };
  const made = new Connection("nats://a,nats://b", { onConnection: (state) => states.push(state), ...options }, dial);
  t.after(() => made.close());
  return { made, dialled, states };
}

const until = async (holds: () => boolean): Promise<void> => {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 10));
};

test("a first try that fails is told, by whose fault it is", async (t) => {
  await assert.rejects(connection(t, []).made.ready(), Unreachable);
  const refused = new errors.AuthorizationError("Authorization Violation");
  await assert.rejects(connection(t, [refused]).made.ready(), Unauthorized);
});

test("it connects again, with a new token, and subscriptions stay", { timeout: 20_000 }, async (t) => {
  const [first, second] = [new Client(), new Client()];
  let tokens = 0;
  const token = async (): Promise<string> => `head.claims.signature-${(tokens += 1)}-of-it-that-is-long`;
  const { made, dialled, states } = connection(t, [first, second], { token });
  const forget = made.subscribe("chat.delta.c", () => undefined);
  const again = made.subscribe("chat.delta.c", () => undefined);
  made.subscribe("tts.audio.c", () => undefined);
  await made.ready();
  assert.deepEqual(first.subjects, ["chat.delta.c", "tts.audio.c"]);
  await first.close(new Error("its token ended"));
  await until(() => states.length === 3);
  assert.deepEqual(states, ["connected", "lost", "connected"]);
  assert.deepEqual(second.subjects, ["chat.delta.c", "tts.audio.c"]);
  assert.deepEqual(
    dialled.map(({ token, inboxPrefix }) => [token, inboxPrefix]),
    [1, 2].map((n) => [`head.claims.signature-${n}-of-it-that-is-long`, `_INBOX_signature-${n}-of-it-that`]),
  );
  forget();
  assert.equal(second.subjects.length, 2);
  again();
  assert.deepEqual(second.subjects, ["tts.audio.c"]);
});

test("what is closed stays closed, and whoever listens is told", async (t) => {
  const { made, states } = connection(t, [new Client(), new Client()]);
  await made.ready();
  let told = 0;
  made.onClosed(() => (told += 1));
  await made.close();
  await made.close();
  assert.deepEqual([states, told], [["connected", "closed"], 1]);
  await assert.rejects(made.request("chat.ask.c", {}), Unreachable);
});

test("each answer that is none is an error of its class", async (t) => {
  const client = new Client();
  const { made } = connection(t, [client]);
  await made.ready();
  const denied = new errors.PermissionViolationError("no", "publish", "chat.ask.c");
  const cases: [object | Error, new (...args: never[]) => Error][] = [
    [{ error: { code: "busy", message: "later", retryable: true } }, Busy],
    [{ error: { code: 503, err_code: 10_077, description: "maximum bytes exceeded" } }, StorageUnavailable],
    [new errors.TimeoutError(), DeadlineExceeded],
    [new errors.RequestError("", { cause: denied }), Unauthorized],
    [new errors.RequestError("", { cause: new errors.NoRespondersError("chat.ask.c") }), Unreachable],
    [new errors.ClosedConnectionError(), Unreachable],
  ];
  for (const [answer, kind] of cases) {
    client.answer = answer;
    await assert.rejects(made.request("chat.ask.c", {}), kind);
  }
  client.answer = { state: "queued" };
  assert.deepEqual(await made.request("chat.ask.c", {}), { state: "queued" });
});
