// Runs the unit tests on the output of the compiler.

import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('../out/test/unit/', import.meta.url));
const files = readdirSync(folder).filter(name => name.endsWith('.test.js'));
if (!files.length) throw new Error(`no tests in ${folder}`);
const { status } = spawnSync(
  process.execPath,
  ['--enable-source-maps', '--test', '--test-timeout=30000', ...files.map(name => folder + name)],
  {
    stdio: 'inherit',
  },
);
process.exit(status ?? 1);
