// What npm packs: made from a clean folder, imported in Node, and checked by the first and the current TypeScript that it is for.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const web = fileURLToPath(new URL('..', import.meta.url));
const modules = join(web, 'node_modules');
const folder = mkdtempSync(join(tmpdir(), 'tidings-package-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const installed = join(folder, 'app/node_modules/tidings');
const run = (command, args, cwd) =>
  execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
const app = (name, text) => writeFileSync(join(folder, 'app', name), text);

const SAMPLE = `
import { Attendance, Client, codes, type Dial, json, type State, type SubscriptionEvent, TidingsError } from 'tidings';
import { TidingsProvider, useChannel, useConnection, usePresence } from 'tidings/react';

const dial: Dial = async (url, { certificateHashes, signal }) => {
  const [first]: Uint8Array[] = certificateHashes;
  throw new TidingsError(codes.LOST, url.href + first?.length + signal.aborted);
};
const client = new Client('https://example.org', { getToken: () => null, dial: { webtransport: dial } });
const said = (event: SubscriptionEvent): string | bigint =>
  event.type === 'publication' && event.message.kind === 'data' ? event.message.text() : 'from' in event ? event.to : event.type;
for await (const event of client.subscribe('c', { latest: 5 })) said(event);
client.on('refused', ({ channel, code }) => [channel.length, code.toFixed()]);
client.on('connected', ({ expires, idleTimeout, refused }) => [expires?.toFixed(), idleTimeout, refused.length]);
const state: State = await client.connect();
const attendance: Attendance = await client.presence('c', { limit: 1 });
await client.publish('c', json({ state, members: attendance.members }), { key: 'k' });
// @ts-expect-error: no option of this name
new Client('https://example.org', { tokens: 'x' });
// @ts-expect-error: not a message
await client.publish('c', 42);
export const Room = (): string => {
  const { publications, status } = useChannel('c', { latest: 5, onEvent: event => void said(event) });
  return publications.length + status + useConnection().status + usePresence('c', { client }).members.length + String(TidingsProvider);
};
`;

test('a clean folder packs modules, maps with sources, declarations, both licences and the README', () => {
  // Without what a build left behind.
  cpSync(web, join(folder, 'web'), {
    recursive: true,
    filter: from => !['node_modules', 'dist', 'out'].some(name => from === join(web, name)),
  });
  symlinkSync(modules, join(folder, 'web/node_modules'));
  run('npm', ['pack', '--pack-destination', folder], join(folder, 'web'));
  const archive = readdirSync(folder).find(name => name.endsWith('.tgz'));
  mkdirSync(installed, { recursive: true });
  run('tar', ['xzf', join(folder, archive), '--strip-components=1', '-C', installed], folder);
  for (const name of [
    'LICENSE-MIT',
    'LICENSE-APACHE',
    'README.md',
    'package.json',
    'dist/index.js',
    'dist/index.d.ts',
  ]) {
    assert.ok(existsSync(join(installed, name)), name);
  }
  assert.equal(existsSync(join(installed, 'test')) || existsSync(join(installed, 'src')), false);
  for (const name of ['index', 'client', 'transport/websocket', 'react/index']) {
    const text = readFileSync(join(installed, `dist/${name}.js`), 'utf8');
    assert.match(text, new RegExp(`sourceMappingURL=${name.split('/').at(-1)}\\.js\\.map`));
    const map = JSON.parse(readFileSync(join(installed, `dist/${name}.js.map`), 'utf8'));
    assert.ok(map.sourcesContent.length === map.sources.length && map.sourcesContent[0]);
    // The hooks are for components of the client only.
    assert.equal(/^['"]use client['"];/.test(text), name === 'react/index');
    assert.doesNotMatch(readFileSync(join(installed, `dist/${name}.d.ts`), 'utf8'), /\.ts'|Uint8Array</);
  }
});

test('Node imports it without side effects, its React part and its package.json', () => {
  for (const name of ['react', '@types', 'csstype'])
    symlinkSync(join(modules, name), join(folder, 'app/node_modules', name));
  app('package.json', '{ "type": "module" }');
  app(
    'main.mjs',
    `
    const before = Object.getOwnPropertyNames(globalThis).length;
    const { Client, json } = await import('tidings');
    const { useChannel } = await import('tidings/react');
    const { default: about } = await import('tidings/package.json', { with: { type: 'json' } });
    const client = new Client('https://example.org');
    if (Object.getOwnPropertyNames(globalThis).length !== before) throw new Error('a global was added');
    console.log(about.name, client.state.status, typeof useChannel, json(1).text());
    `,
  );
  // It ends by itself: nothing is left running.
  assert.equal(run(process.execPath, ['main.mjs'], join(folder, 'app')), 'tidings idle function 1\n');
});

const OPTIONS = ['--noEmit', '--strict', '--target', 'es2022', '--lib', 'es2022,dom,dom.iterable,dom.asynciterable'];
for (const [compiler, resolutions] of [
  ['typescript-5.4', ['nodenext', 'bundler', 'node10']],
  ['typescript', ['nodenext']],
]) {
  for (const resolution of resolutions) {
    const module = resolution === 'nodenext' ? resolution : 'esnext';
    test(`${compiler} checks a program that uses it, with module resolution ${resolution}`, () => {
      app('sample.ts', SAMPLE);
      const flags = [
        '--module',
        module,
        '--moduleResolution',
        resolution,
        '--types',
        'react',
        '--skipLibCheck',
        'false',
      ];
      try {
        run(
          process.execPath,
          [join(modules, compiler, 'bin/tsc'), ...OPTIONS, ...flags, 'sample.ts'],
          join(folder, 'app'),
        );
      } catch (error) {
        assert.fail(error.stdout);
      }
    });
  }
}
