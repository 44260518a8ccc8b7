// Runs the browser tests on the output of the compiler.

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const files = ['browser', 'fallback'].map(name =>
  fileURLToPath(new URL(`../out/test/browser/${name}.test.js`, import.meta.url)),
);
const { status } = spawnSync(
  process.execPath,
  ['--enable-source-maps', '--test', '--test-timeout=180000', '--test-concurrency=1', ...files],
  {
    stdio: 'inherit',
  },
);
process.exit(status ?? 1);
