// What the connection is doing.

import type { Client, State } from '/sdk/index.js';
import { Chart } from './chart.ts';
import type { Dialer } from './dialer.ts';
import { byId, element, List, write } from './dom.ts';
import type { Tally } from './tally.ts';
import { milliseconds } from './units.ts';

/** How often all of it is brought up to date, in ms. */
const EVERY = 1_000;
/** Time in ms that the chart of round trips shows. */
const WINDOW = 120_000;

/** Keeps the panel up to date. `tallies` may grow. */
export function panel(client: Client, dialer: Dialer, tallies: Tally[]): void {
  const chart = new Chart('Round trip', WINDOW, milliseconds);
  byId('chart', HTMLElement).append(chart.root);
  follow(client);
  byId('cut', HTMLButtonElement).addEventListener('click', () => dialer.cut());
  const list = new List<Tally>(byId('channels', HTMLElement), ({ channel }) => channel, row);
  const look = () => {
    list.show(tallies);
    const recovered = sum(tallies, ({ recovered }) => recovered);
    const breaks = recovered + sum(tallies, ({ lost }) => lost);
    write(byId('recovered', HTMLElement), breaks ? `${recovered} of ${breaks} channels` : '–');
  };
  setInterval(look, EVERY);
  // Once the client is over there is nothing to measure, and the status says why.
  measure(client, chart).catch(() => {});
}

const sum = <T>(all: T[], value: (item: T) => number): number => all.reduce((total, item) => total + value(item), 0);

function follow(client: Client): void {
  let breaks = 0;
  let connected = false;
  const status = byId('status', HTMLElement);
  const show = (state: State) => {
    if (connected && state.status !== 'connected') breaks++;
    connected = state.status === 'connected';
    status.dataset.state = state.status;
    write(status, said(state));
    status.title = 'error' in state && state.error ? `${state.error.message} (${state.error.code})` : '';
    write(byId('breaks', HTMLElement), String(breaks));
    if (state.status === 'connected') {
      write(byId('user', HTMLElement), state.user ?? 'nobody');
      write(byId('transport', HTMLElement), state.transport);
    }
    if (state.status === 'disconnected') alertOf(`Disconnected: ${state.error.message} (${state.error.code})`);
  };
  for (const status of ['connecting', 'connected', 'disconnected'] as const) client.on(status, show);
  show(client.state);
}

const said = (state: State): string =>
  state.status === 'connected'
    ? 'Connected'
    : state.status === 'disconnected'
      ? 'Disconnected'
      : 'attempt' in state && state.attempt > 1
        ? `Connecting, attempt ${state.attempt}`
        : 'Connecting';

/** Says at the top of the page what keeps it from working. */
export function alertOf(text: string): void {
  const alert = byId('alert', HTMLElement);
  alert.hidden = !text;
  write(alert, text);
}

async function measure(client: Client, chart: Chart): Promise<void> {
  for (;;) {
    await client.ready();
    const rtt = await client.rtt().catch(() => undefined);
    if (rtt !== undefined) chart.add(performance.now(), rtt);
    await new Promise(resolve => setTimeout(resolve, EVERY));
  }
}

function row(): { root: HTMLElement; update(tally: Tally): void } {
  const name = element('th', { scope: 'row' });
  const cell = () => element('td', { class: 'number' });
  const [offset, heard, lagged, skipped] = [cell(), cell(), cell(), cell()];
  return {
    root: element('tr', {}, name, offset, heard, lagged, skipped),
    update(tally) {
      write(name, tally.channel);
      name.title = tally.end;
      write(offset, tally.end ? 'over' : (tally.offset?.toLocaleString() ?? '–'));
      write(heard, tally.heard.toLocaleString());
      write(lagged, tally.lagged.toLocaleString());
      lagged.classList.toggle('some', tally.lagged > 0);
      write(skipped, tally.skipped.toLocaleString());
    },
  };
}
