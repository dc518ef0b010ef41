import { connect, type NatsConnection } from "@nats-io/transport-node";

let opening: Promise<NatsConnection> | undefined;

/** One connection of this server, for everybody who asks. */
export function nats(): Promise<NatsConnection> {
  opening ??= connect({
    servers: process.env.NATS_URL ?? "nats://127.0.0.1:4222",
    user: process.env.NATS_USER,
    pass: process.env.NATS_PASSWORD,
    maxReconnectAttempts: -1,
  }).catch((error) => {
    opening = undefined; // the next one tries again
    throw error;
  });
  return opening;
}
