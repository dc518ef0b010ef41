/** `@parley/client` in Node: NATS over TCP, or over a WebSocket where Node has one (22 and later). */
import { readFile, writeFile } from "node:fs/promises";

import { hasWsProtocol, wsconnect } from "@nats-io/nats-core";
import type { ConnectionOptions, NatsConnection } from "@nats-io/nats-core";
import { connect } from "@nats-io/transport-node";

import { Connection } from "./connection.ts";
import type { ConnectOptions } from "./connection.ts";
import { invalidRequest } from "./errors.ts";
import { Parley as Base } from "./parley.ts";
import type { Platform } from "./turn.ts";

export * from "./common.ts";
export { StreamSink } from "./stream_sink.ts";

const platform: Platform = { writeFile };

export class Parley extends Base {
  /** Connects to `nats://…`, `tls://…`, `ws://…` or `wss://…`; rejects where the first try fails. */
  static async connect(url: string, options: ConnectOptions = {}): Promise<Parley> {
    const text = await credentials(options.creds);
    const parley = Parley.open(url, { ...options, creds: text });
    try {
      await parley.connection.ready();
    } catch (error) {
      await parley.close();
      throw error;
    }
    return parley;
  }

  /**
   * As `connect`, without waiting: it tries until it is closed, and `options.onConnection` is told.
   * `creds` is the text of a file.
   */
  static open(url: string, options: ConnectOptions = {}): Parley {
    return new Parley(new Connection(url, options, dial), platform);
  }
}

/** The text of a credentials file. */
async function credentials(given: string | undefined): Promise<string | undefined> {
  return given === undefined || given.includes("-----BEGIN ") ? given : await readFile(given, "utf8");
}

async function dial(options: ConnectionOptions): Promise<NatsConnection> {
  if (!hasWsProtocol(options)) return await connect(options);
  if (!("WebSocket" in globalThis)) throw invalidRequest("this Node has no WebSocket: Node 22 has, and nats:// needs none");
  return await wsconnect(options);
}
