// The list of sessions: who, over what, how far away, and how far behind.

import type { Progress, Session } from './api.ts';
import { byId, element, List, type Row, write } from './dom.ts';
import { type Look, MOST_SESSIONS } from './look.ts';
import { bytes, count, milliseconds } from './units.ts';

const TITLES = ['Channel', 'Offset', 'Behind', 'Waiting', 'Lagged', 'Skipped'];
/** Their classes: there is no room on a phone for those beside. */
const KINDS = ['', 'number', 'number', 'number beside', 'number', 'number'];

export class Sessions {
  readonly #list = new List<Session>(byId('sessions', HTMLElement), ({ id }) => id, session);
  readonly #filter = byId('sessions-filter', HTMLInputElement);
  #look: Look | undefined;

  constructor() {
    this.#filter.addEventListener('input', () => this.#show());
  }

  show(look: Look): void {
    this.#look = look;
    this.#show();
  }

  #show(): void {
    if (!this.#look) return;
    const { sessions, moreSessions } = this.#look;
    const wanted = this.#filter.value.trim().toLowerCase();
    const found = sessions.filter(({ id, user }) => `${user ?? ''} ${id}`.toLowerCase().includes(wanted));
    this.#list.show(found);
    write(byId('sessions-count', HTMLElement), count(sessions.length) + (moreSessions ? '+' : ''));
    const parts = [
      moreSessions ? `Only the first ${count(MOST_SESSIONS)} by id were looked at.` : '',
      sessions.length && !found.length ? 'No session has this in its user or id.' : '',
      sessions.length ? '' : 'Nobody is connected.',
    ];
    write(byId('sessions-note', HTMLElement), parts.filter(Boolean).join(' '));
  }
}

const worst = (subscriptions: Progress[]): number => Math.max(0, ...subscriptions.map(({ behind }) => behind));

function session(): Row<Session> {
  const user = element('b');
  const transport = element('span', { class: 'beside' });
  const trip = element('span', { class: 'number' });
  const channels = element('span', { class: 'number beside' });
  const behind = element('span', { class: 'number' });
  const from = element('p', { class: 'note' });
  const body = element('tbody');
  const list = new List<Progress>(body, ({ name, source }) => `${source} ${name}`, progress);
  const heads = TITLES.map((title, n) => element('th', { scope: 'col', class: KINDS[n]! }, title));
  const table = element('table', {}, element('thead', {}, element('tr', {}, ...heads)), body);
  const inside = element('div', { class: 'inside' }, from, table);
  const summary = element('summary', {}, user, transport, trip, channels, behind);
  const root = element('details', { class: 'session' }, summary, inside);
  let now: Session | undefined;
  // What is folded away is not kept up to date.
  const unfold = () => root.open && now && list.show(now.subscriptions);
  root.addEventListener('toggle', unfold);
  return {
    root,
    update(next) {
      now = next;
      const most = worst(next.subscriptions);
      write(user, next.user ?? 'anonymous');
      write(transport, next.transport);
      write(trip, milliseconds(next.round_trip_us / 1_000));
      write(channels, plural(next.subscriptions.length, 'channel'));
      write(behind, most ? `${count(most)} behind` : 'up to date');
      behind.classList.toggle('some', most > 0);
      write(
        from,
        `${next.transport} from ${next.address}, ${next.client || 'a client without a name'}, session ${next.id}`,
      );
      unfold();
    },
  };
}

function progress(): Row<Progress> {
  const name = element('th', { scope: 'row' });
  const cells = KINDS.slice(1).map(kind => element('td', { class: kind }));
  return {
    root: element('tr', {}, name, ...cells),
    update({ name: channel, source, offset, behind, waiting_bytes, lagged, skipped }) {
      write(name, source === 'channel' ? channel : `${channel} (endpoint)`);
      const texts = [count(offset), count(behind), bytes(waiting_bytes), count(lagged), count(skipped)];
      for (const [n, cell] of cells.entries()) write(cell, texts[n]!);
      cells[1]!.classList.toggle('some', behind > 0);
      cells[3]!.classList.toggle('some', lagged > 0);
    },
  };
}

const plural = (number: number, what: string): string => `${count(number)} ${what}${number === 1 ? '' : 's'}`;
