// What the development server tells its pages.

/** The answer to `GET /dev/config`. */
export interface DevConfig {
  /** Where to connect: `https://HOST:PORT/tidings`. */
  url: string;
  /** Where WebSockets are served without TLS: `http://HOST:PORT/tidings`. */
  websocket?: string | null;
  /** SHA-256 of the server's certificates, in hexadecimal. */
  certificateHashes: string[];
  /** The key of the HTTP API. */
  apiKey: string;
}

/** Asks for it; `undefined` where the server is not one for development. Throws where it does not answer. */
export async function devConfig(): Promise<DevConfig | undefined> {
  const answer = await fetch('/dev/config', { signal: AbortSignal.timeout(5_000) });
  if (answer.status === 404) return undefined;
  if (!answer.ok) throw new Error(`/dev/config: ${answer.status} ${answer.statusText}`);
  return (await answer.json()) as DevConfig;
}

/** A token for this user. */
export async function devToken(user: string): Promise<string> {
  const answer = await fetch(`/dev/token?user=${encodeURIComponent(user)}`, { signal: AbortSignal.timeout(5_000) });
  if (!answer.ok) throw new Error(`/dev/token: ${answer.status} ${answer.statusText}`);
  return (await answer.text()).trim();
}
