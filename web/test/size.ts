// The library, bundled and minified, compressed as servers do, without the WebSocket fallback.

import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const MOST = 10_000;

async function size(entry: string): Promise<number> {
  const { outputFiles } = await build({
    stdin: { contents: entry, resolveDir: fileURLToPath(new URL('../../dist', import.meta.url)) },
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    external: ['*/websocket.js'],
  });
  return gzipSync(outputFiles[0]!.contents, { level: 9 }).length;
}

const all = await size("export * from './index.js'");
const unused = await size("import './index.js'");
const error = await size("export { TidingsError } from './index.js'");
console.log(`size: ${all} bytes gzip of ${MOST}; of one class ${error}; of nothing ${unused}`);
if (all > MOST || error > 700 || unused > 50) {
  console.error('size: too large, or nothing can be left out of it');
  process.exit(1);
}
