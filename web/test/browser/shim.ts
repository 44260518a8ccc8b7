// Serves the pages in front of a server that does not do so itself: the compiled modules, what `/dev/` tells, and `/v1/channels`; all
// else of the HTTP API is passed on.

import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Server } from './server.ts';

const WEB = new URL('../../../', import.meta.url);
const POLICY = "default-src 'self'; connect-src 'self' https: wss: ws:; style-src 'self'";
const TYPES: Record<string, string> = {
  html: 'text/html; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
  svg: 'image/svg+xml',
};

/** Where the pages are, and how to stop serving them. */
export interface Site {
  url: string;
  close(): void;
}

/** The server itself where it serves the pages, otherwise a shim in front of it. */
export async function siteOf(server: Server): Promise<Site> {
  const own = await fetch(`${server.http}/dev/config`);
  if (own.ok) return { url: server.http, close: () => {} };
  const shim = createServer((request, response) => {
    answer(server, request, response).catch(error => response.writeHead(502).end(String(error)));
  });
  await new Promise<void>(resolve => shim.listen(0, '127.0.0.1', resolve));
  const { port } = shim.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    close: () => {
      shim.closeAllConnections();
      shim.close();
    },
  };
}

async function answer(server: Server, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url!, 'http://shim');
  const file = fileOf(url.pathname);
  if (file) {
    response.setHeader('content-security-policy', POLICY);
    response.setHeader('content-type', TYPES[file.split('.').at(-1)!]!);
    response.end(readFileSync(new URL(file, WEB)));
  } else if (url.pathname === '/dev/config') {
    reply(response, 200, { url: server.url, certificateHashes: [server.hash], apiKey: server.key });
  } else if (url.pathname === '/dev/token') {
    response.setHeader('content-type', 'text/plain').end(await server.token(url.searchParams.get('user')!));
  } else if (url.pathname === '/v1/channels') {
    if (request.headers.authorization === `Bearer ${server.key}`) reply(response, 200, await channels(server));
    else await pass(server, request, response);
  } else {
    await pass(server, request, response);
  }
}

function fileOf(path: string): string | undefined {
  if (path === '/') return 'pages/index.html';
  if (path === '/console') return 'pages/console.html';
  if (/^\/sdk\/(\w+\/)*\w+\.js$/.test(path)) return path.replace('/sdk/', 'out/src/');
  if (/^\/pages\/\w+\.js$/.test(path)) return `out${path}`;
  if (/^\/pages\/\w+\.(css|svg)$/.test(path)) return path.slice(1);
  return undefined;
}

function reply(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

async function pass(server: Server, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  const { authorization, 'content-type': type } = request.headers;
  const headers = { ...(authorization && { authorization }), ...(type && { 'content-type': type }) };
  const method = request.method!;
  // What it says to a wrong key is the same everywhere.
  const path = request.url!.startsWith('/v1/channels') ? '/v1/presence?channel=any' : request.url!;
  const answer = await fetch(server.http + path, {
    method,
    headers,
    ...(chunks.length && { body: Buffer.concat(chunks) }),
  });
  const answered = answer.headers.get('content-type') ?? 'text/plain';
  response.writeHead(answer.status, { 'content-type': answered }).end(await answer.text());
}

interface Listed {
  sessions: { subscriptions: { name: string }[] }[];
}
interface Kept {
  epoch: string | null;
  first: number;
  last: number;
}

/** The channels that somebody is subscribed to. */
async function channels(server: Server): Promise<unknown> {
  const { sessions } = (await server.post('/v1/sessions', {})) as Listed;
  const subscribers = new Map<string, number>();
  for (const { name } of sessions.flatMap(({ subscriptions }) => subscriptions)) {
    subscribers.set(name, (subscribers.get(name) ?? 0) + 1);
  }
  const listed = [...subscribers].sort().map(async ([channel, subscribers]) => {
    const { epoch, first, last } = (await server.post('/v1/history', { channel, limit: 0 })) as Kept;
    if (!epoch) return [];
    const retained = { publications: last - first + 1, bytes: 64 * (last - first + 1) };
    return [{ channel, epoch, offset: last, subscribers, retained }];
  });
  return { channels: (await Promise.all(listed)).flat(), next: null };
}
