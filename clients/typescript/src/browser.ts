/** `@parley/client` in a browser: NATS over a WebSocket, sound by Web Audio. */
import { wsconnect } from "@nats-io/nats-core";

import { Connection } from "./connection.ts";
import type { ConnectOptions } from "./connection.ts";
import { invalidRequest } from "./errors.ts";
import { Parley as Base } from "./parley.ts";
import type { Platform } from "./turn.ts";

export * from "./common.ts";
export { Recording, WebSound } from "./sound.ts";

const platform: Platform = {
  writeFile: () => Promise.reject(invalidRequest("a browser writes no files: use the Blob")),
};

export class Parley extends Base {
  /** Connects to `ws://…` or `wss://…`; rejects where the first try fails. */
  static async connect(url: string, options: ConnectOptions = {}): Promise<Parley> {
    const parley = Parley.open(url, options);
    try {
      await parley.connection.ready();
    } catch (error) {
      await parley.close();
      throw error;
    }
    return parley;
  }

  /** As `connect`, without waiting: it tries until it is closed, and `options.onConnection` is told. */
  static open(url: string, options: ConnectOptions = {}): Parley {
    return new Parley(new Connection(url, options, wsconnect), platform);
  }
}
