// A real server in a directory of its own, and the command line beside it.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';

// From here, not from the directory that the server is started in.
const BINARY = process.env.TIDINGS_BIN && resolve(process.env.TIDINGS_BIN);

// What begins with TIDINGS_ is a setting for the server.
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TIDINGS_')));

export const CONFIG = `
[auth]
leeway_seconds = 0
[limits]
message = 1048576
[retention]
count = 20000
bytes = 67108864
[[rules]]
pattern = "user-{user}"
subscribe = "owner"
publish = "nobody"
auto_subscribe = true
[[rules]]
pattern = "global"
subscribe = "everyone"
publish = "nobody"
auto_subscribe = true
[[rules]]
pattern = "room-{room}"
subscribe = "authenticated"
publish = "authenticated"
presence = true
[[rules]]
pattern = "load-{n}"
subscribe = "authenticated"
publish = "nobody"
[[rules]]
pattern = "state"
subscribe = "authenticated"
publish = "authenticated"
delivery = "datagram"
[[rules]]
pattern = "latest"
subscribe = "authenticated"
publish = "authenticated"
on_lag = "latest"
`;

interface Running {
  webtransport: string;
  http: string;
  certificate_sha256: string;
}

export class Server {
  readonly directory: string;
  url = '';
  http = '';
  hash = '';
  #child: ChildProcess | undefined;

  private constructor(directory: string) {
    this.directory = directory;
  }

  /** `config` is the text of a configuration. */
  static async start(config = CONFIG): Promise<Server> {
    if (!BINARY) throw new Error('set TIDINGS_BIN to the server, such as ../target/debug/tidings (cargo build)');
    const server = new Server(mkdtempSync(join(tmpdir(), 'tidings-browser-')));
    writeFileSync(join(server.directory, 'tidings.toml'), config);
    await server.run('127.0.0.1:0', '127.0.0.1:0');
    return server;
  }

  /** Starts it again after {@link kill}, where it was. */
  async again(): Promise<void> {
    await this.run(new URL(this.url).host, new URL(this.http).host);
  }

  async run(listen: string, http: string): Promise<void> {
    const flags = ['serve', '--dev', '--config', 'tidings.toml', '--listen', listen, '--http', http];
    const child = spawn(BINARY!, flags, { cwd: this.directory, env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    let said = '';
    // It is there when it says so; its note is written before.
    await new Promise<void>((resolve, reject) => {
      child.stdout!.on('data', chunk => {
        said += chunk;
        if (said.includes('https://')) resolve();
      });
      child.stderr!.on('data', chunk => (said += chunk));
      child.on('exit', () => reject(new Error(`the server ended: ${said}`)));
      child.on('error', reject);
    });
    const running = JSON.parse(readFileSync(join(this.directory, 'certs/dev/server.json'), 'utf8')) as Running;
    this.url = running.webtransport;
    this.http = running.http;
    this.hash = running.certificate_sha256;
  }

  /** The end without a word. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#child!;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise(resolve => child.once('exit', resolve));
    child.kill(signal);
    await ended;
  }

  async stop(): Promise<void> {
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** The command line, in the directory of the server. */
  async cli(...flags: string[]): Promise<string> {
    const { stdout } = await promisify(execFile)(BINARY!, flags, { cwd: this.directory, env });
    return stdout;
  }

  /** A subscriber of the command line that ends after `count` publications; what it printed. */
  async subscriber(count: number, ...flags: string[]): Promise<{ lines: Promise<Record<string, unknown>[]> }> {
    const all = ['sub', '--json', '--count', String(count), ...flags];
    const child = spawn(BINARY!, all, { cwd: this.directory, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    child.stdout.on('data', chunk => (out += chunk));
    const ended = new Promise(resolve => child.once('exit', resolve));
    await new Promise(resolve => child.stderr.once('data', resolve));
    return {
      lines: ended.then(() =>
        out
          .trim()
          .split('\n')
          .map(line => JSON.parse(line)),
      ),
    };
  }

  async token(user: string, time = '1h'): Promise<string> {
    return (await this.cli('token', '--user', user, '--for', time)).trim();
  }

  /** The key of the HTTP API. */
  get key(): string {
    return readFileSync(join(this.directory, 'certs/dev/api.key'), 'utf8').trim();
  }

  /** A request to the HTTP API. */
  async post(path: string, body: unknown): Promise<unknown> {
    const headers = { authorization: `Bearer ${this.key}`, 'content-type': 'application/json' };
    const answer = await fetch(this.http + path, { method: 'POST', headers, body: JSON.stringify(body) });
    const said = await answer.text();
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${said}`);
    return said && JSON.parse(said);
  }

  async publish(channel: string, text: string): Promise<void> {
    await this.post('/v1/publish', { channel, text });
  }
}
