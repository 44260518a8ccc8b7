// Runs the browser tests on the output of the compiler: those of the library, or those that are named.

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const [, , ...named] = process.argv;
const files = (named.length ? named : ['browser', 'session', 'loss', 'fallback', 'pages', 'console']).map(name =>
  fileURLToPath(new URL(`../out/test/browser/${name}.test.js`, import.meta.url)),
);
// One after the other: what they measure and wait for is real.
const flags = ['--enable-source-maps', '--test', '--test-timeout=180000', '--test-concurrency=1'];
const { status } = spawnSync(process.execPath, [...flags, ...files], { stdio: 'inherit' });
process.exit(status ?? 1);
