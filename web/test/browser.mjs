// Runs the browser tests on the output of the compiler.

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const file = fileURLToPath(new URL('../out/test/browser/browser.test.js', import.meta.url));
const { status } = spawnSync(process.execPath, ['--enable-source-maps', '--test', '--test-timeout=180000', file], {
  stdio: 'inherit',
});
process.exit(status ?? 1);
