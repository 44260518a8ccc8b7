// Calls every route of the HTTP API through types that are generated from its OpenAPI document, and prints the routes that it called.
import assert from 'node:assert/strict';
import createClient, { type Middleware } from 'openapi-fetch';
import type { paths } from './generated/api.js';

const [base, key, room] = process.argv.slice(2);
assert(base && key && room, 'usage: client.js BASE KEY ROOM');

const called = new Set<string>();
const recorder: Middleware = {
  onRequest({ request, schemaPath }) {
    called.add(`${request.method} ${schemaPath}`);
  },
};
const headers = { Authorization: `Bearer ${key}` };
const api = createClient<paths>({ baseUrl: base, headers });
api.use(recorder);

/** The body of a successful answer. */
async function ok<T>(answer: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
  const { data, error, response } = await answer;
  assert.equal(response.status, 200, JSON.stringify(error));
  assert(data !== undefined);
  return data;
}

const health = await ok(api.GET('/health'));
assert.equal(health.status, 'ok');
const document: Record<string, unknown> = await ok(api.GET('/openapi.json'));
assert.equal(document['openapi'], '3.1.0');

const notified = await ok(api.POST('/v1/notify', { body: { user: 'ts', text: 'one', key: 'ts-1' } }));
assert.equal(notified.channel, 'user-ts');
const announced = await ok(api.POST('/v1/announce', { body: { text: 'two', key: `ts-${room}` } }));
assert.equal(announced.channel, 'global');
const first = await ok(api.POST('/v1/publish', { body: { channel: room, text: 'three', key: 'ts-1' } }));
const again = await ok(api.POST('/v1/publish', { body: { channel: room, text: 'three', key: 'ts-1' } }));
assert.deepEqual([first.duplicate, again.duplicate, again.offset], [false, true, first.offset]);
await ok(api.POST('/v1/publish', { body: { channel: room, json: { likes: 3 }, user: 'ts' } }));
await ok(api.POST('/v1/publish', { body: { channel: room, base64: 'AP8=' } }));

const history = await ok(api.POST('/v1/history', { body: { channel: room, from: `${first.epoch}:${first.offset - 1}` } }));
assert.equal(history.epoch, first.epoch);
const messages = history.publications.map(({ offset, user, content_type, text, data }) => ({ offset, user, content_type, text, data }));
assert.deepEqual(messages, [
  { offset: first.offset, user: null, content_type: 'text/plain; charset=utf-8', text: 'three', data: undefined },
  { offset: first.offset + 1, user: 'ts', content_type: 'application/json', text: '{"likes":3}', data: undefined },
  { offset: first.offset + 2, user: null, content_type: 'application/octet-stream', text: undefined, data: 'AP8=' },
]);

const present = await ok(api.GET('/v1/presence', { params: { query: { channel: room, limit: 10 } } }));
assert.equal(present.connections, 1);
assert.equal(present.members.length, 1);
const channels = await ok(api.GET('/v1/channels', { params: { query: { limit: 1000 } } }));
assert(channels.channels.some(({ channel, subscribers }) => channel === room && subscribers === 1));

const user = present.members[0]?.user;
assert(user);
const listed = await ok(api.POST('/v1/sessions', { body: { user } }));
assert.equal(listed.sessions[0]?.id, present.members[0]?.id);
const membership = { user, channel: `${room}-more` };
assert.deepEqual(await ok(api.POST('/v1/subscribe', { body: membership })), { sessions: 1, changed: 1 });
assert.deepEqual(await ok(api.POST('/v1/unsubscribe', { body: membership })), { sessions: 1, changed: 1 });
const ended = await ok(api.POST('/v1/disconnect', { body: { user, code: 1001, reason: 'signed out' } }));
assert.deepEqual(ended, { sessions: 1, changed: 1 });
const revoked = await ok(api.POST('/v1/revoke', { body: { user: 'nobody', seconds: 60 } }));
assert.deepEqual([revoked.sessions, revoked.expires], [0, revoked.issued_before + 60_000]);

// An error is of the documented shape, too.
const refused = await api.POST('/v1/publish', { body: { channel: 'a b', text: 'x' } });
assert.equal(refused.response.status, 422);
assert.equal(refused.error?.error.code, 'invalid_channel');

console.log(JSON.stringify([...called].sort()));
