/** The page's config.json. */
export interface Config {
  nats_url: string;
  nats_user?: string;
  nats_password?: string;
  /** Where a token for a conversation can be had, in the place of a login. */
  token_url?: string;
  voices?: { id: string; name: string }[];
}

const TOKEN_MS = 5_000;

/** Beside the page stands where NATS is; without it, behind the same address at /nats. */
export async function readConfig(): Promise<Config> {
  let config: Config = { nats_url: "/nats" };
  try {
    const answer = await fetch("config.json", { cache: "no-store" });
    if (answer.ok) config = (await answer.json()) as Config;
  } catch (error) {
    console.info("config.none", String(error));
  }
  const url = new URL(config.nats_url, location.href);
  if (url.protocol === "http:") url.protocol = "ws:";
  if (url.protocol === "https:") url.protocol = "wss:";
  return { ...config, nats_url: url.href };
}

/** A token for this conversation. */
export async function tokenOf(url: string, conversation: string): Promise<string> {
  const answer = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ conversation_id: conversation }),
    signal: AbortSignal.timeout(TOKEN_MS),
  });
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
  return ((await answer.json()) as { token: string }).token;
}
