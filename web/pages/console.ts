// The console: who is connected, what is said where, and a way to say something.

import { Api, ApiError } from './api.ts';
import { Channels } from './channels.ts';
import { Chart } from './chart.ts';
import { devConfig } from './config.ts';
import { byId, write } from './dom.ts';
import { type Look, look } from './look.ts';
import { poll } from './poll.ts';
import { Send } from './send.ts';
import { Sessions } from './sessions.ts';
import { count, rate } from './units.ts';

const KEY = 'tidings.key';
/** Time in ms that the charts show. */
const WINDOW = 300_000;

const login = byId('login', HTMLFormElement);
const board = byId('board', HTMLElement);
const forget = byId('forget', HTMLButtonElement);

let current: { api: Api; stop: AbortController } | undefined;
const send = new Send(() => current?.api);
const channels = new Channels(channel => send.address(channel));
const sessions = new Sessions();
const charts = {
  publications: chart('publications', 'Publications per second', rate),
  sessions: chart('sessions', 'Sessions', count),
  subscriptions: chart('subscriptions', 'Subscriptions', count),
};

function chart(id: string, label: string, format: (value: number) => string): Chart {
  const made = new Chart(label, WINDOW, format);
  byId(`${id}-chart`, HTMLElement).append(made.root);
  return made;
}

/** Begins to look at the server with this key. */
function begin(key: string): void {
  let api: Api;
  try {
    api = new Api(key);
  } catch (error) {
    ask(`This cannot be the key: ${(error as Error).message}.`);
    return;
  }
  current?.stop.abort();
  const stop = new AbortController();
  current = { api, stop };
  let before: Look | undefined;
  const again = async () => {
    const now = await look(api, before);
    if (stop.signal.aborted) return;
    before = now;
    sessionStorage.setItem(KEY, key);
    show(now);
  };
  void poll(again, (error, wait) => !stop.signal.aborted && failed(error, wait), stop.signal);
}

/** Asks for a key, and says why. */
function ask(why: string): void {
  current?.stop.abort();
  current = undefined;
  board.hidden = forget.hidden = true;
  login.hidden = false;
  state('connecting', 'No key');
  alertOf('');
  write(byId('login-error', HTMLElement), why);
  byId('key', HTMLInputElement).focus();
}

function show(now: Look): void {
  login.hidden = true;
  board.hidden = forget.hidden = false;
  board.classList.remove('stale');
  alertOf('');
  state('connected', 'Live', `Tidings ${now.health.version}`);
  channels.show(now);
  sessions.show(now);
  const rates = now.channels.map(({ rate }) => rate).filter(rate => rate !== undefined);
  if (rates.length || !now.channels.length)
    charts.publications.add(
      now.at,
      rates.reduce((sum, rate) => sum + rate, 0),
    );
  charts.sessions.add(now.at, now.sessions.length);
  charts.subscriptions.add(now.at, now.health.subscriptions);
}

function failed(error: Error, wait: number): void {
  if (error instanceof ApiError && error.status === 401) {
    sessionStorage.removeItem(KEY);
    ask(`The server does not take this key: ${error.message} (${error.code}).`);
    return;
  }
  board.classList.add('stale');
  const said = error instanceof ApiError ? `${error.message} (${error.code})` : `no answer (${error.message})`;
  state('disconnected', 'No answer');
  alertOf(`The server could not be looked at: ${said}. Trying again in ${Math.round(wait / 1_000)} s.`);
}

function state(state: string, text: string, title = ''): void {
  const status = byId('status', HTMLElement);
  status.title = title;
  status.dataset.state = state;
  write(status, text);
}

function alertOf(text: string): void {
  const alert = byId('alert', HTMLElement);
  alert.hidden = !text;
  write(alert, text);
}

login.addEventListener('submit', event => {
  event.preventDefault();
  const field = byId('key', HTMLInputElement);
  const key = field.value.trim();
  field.value = '';
  write(byId('login-error', HTMLElement), '');
  begin(key);
});
forget.addEventListener('click', () => {
  sessionStorage.removeItem(KEY);
  ask('');
});

const config = await devConfig().catch(() => undefined);
byId('development', HTMLElement).hidden = !config;
const key = config?.apiKey ?? sessionStorage.getItem(KEY);
if (key) begin(key);
else ask('');
