// Compiles the library to `dist`: modules, source maps with their sources, and declarations that TypeScript 5.4 reads.

import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = new URL('.', import.meta.url);
const dist = fileURLToPath(new URL('dist', here));
const compiler = fileURLToPath(new URL('node_modules/typescript/bin/tsc', here));
// Modules that are gone are not packed.
rmSync(dist, { recursive: true, force: true });
const config = fileURLToPath(new URL('tsconfig.build.json', here));
const { status } = spawnSync(process.execPath, [compiler, '-p', config], { stdio: 'inherit' });
if (status) process.exit(status);
for (const name of readdirSync(dist, { recursive: true, encoding: 'utf8' })) {
  if (!name.endsWith('.d.ts')) continue;
  const path = `${dist}/${name}`;
  const text = readFileSync(path, 'utf8')
    // The compiler rewrites imports of modules, and leaves those of declarations.
    .replace(/((?:from|import\()\s*'\.[^']*)\.ts'/g, "$1.js'")
    // Generic since TypeScript 5.7 only.
    .replace(/\bUint8Array<\w+>/g, 'Uint8Array');
  writeFileSync(path, text);
}
