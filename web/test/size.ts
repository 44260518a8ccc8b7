// The library, bundled and minified, compressed as servers do, without what is loaded on
// demand: the WebSocket fallback, lanes and datagrams.

import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

async function size(entry: string): Promise<number> {
  const { outputFiles } = await build({
    stdin: { contents: entry, resolveDir: fileURLToPath(new URL('../../dist', import.meta.url)) },
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    external: ['*/websocket.js', '*/lane.js', '*/datagram.js', '*/requests.js'],
    logLevel: 'error',
  });
  return gzipSync(outputFiles[0]!.contents, { level: 9 }).length;
}

/** What is imported, and the most bytes that may take. */
const wanted: [entry: string, most: number][] = [
  // Everything, as a page gets it that uses all.
  ["export * from './index.js'", 11_300],
  // What is not used is left out.
  ["export { TidingsError } from './index.js'", 300],
  ["import './index.js'", 30],
];
for (const [entry, most] of wanted) {
  const bytes = await size(entry);
  console.log(`${bytes} bytes gzip, of ${most} at most: ${entry}`);
  if (bytes > most) process.exitCode = 1;
}
