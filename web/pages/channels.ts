// The table of channels: sorted and filtered.

import { byId, element, List, type Row, write } from './dom.ts';
import { type Lively, type Look, MOST_CHANNELS } from './look.ts';
import { bytes, count, rate } from './units.ts';

/** Most rows on the page. */
const MOST = 200;

interface Column {
  title: string;
  value: (channel: Lively) => string | number;
  text: (channel: Lively) => string;
  kind: string;
}

const COLUMNS: readonly Column[] = [
  { title: 'Channel', value: ({ channel }) => channel, text: ({ channel }) => channel, kind: '' },
  {
    title: 'Subscribers',
    value: ({ subscribers }) => subscribers,
    text: ({ subscribers }) => count(subscribers),
    kind: 'number',
  },
  { title: 'Offset', value: ({ offset }) => offset, text: ({ offset }) => count(offset), kind: 'number' },
  { title: 'Per second', value: ({ rate }) => rate ?? -1, text: channel => rate(channel.rate), kind: 'number' },
  {
    title: 'Kept',
    value: ({ retained }) => retained.bytes,
    text: ({ retained }) => `${count(retained.publications)}, ${bytes(retained.bytes)}`,
    kind: 'number beside',
  },
];

export class Channels {
  readonly #list: List<Lively>;
  readonly #heads: HTMLElement[];
  readonly #filter = byId('channels-filter', HTMLInputElement);
  #look: Look | undefined;
  #by = 0;
  /** 1 for upwards, -1 for downwards. */
  #way = 1;

  /** `chosen` is called with the name of a channel that is clicked. */
  constructor(chosen: (channel: string) => void) {
    this.#list = new List(
      byId('channels', HTMLElement),
      ({ channel }) => channel,
      channel => row(channel, chosen),
    );
    this.#heads = COLUMNS.map(({ title, kind }, n) => {
      const button = element('button', { type: 'button', class: 'sort' }, title);
      button.addEventListener('click', () => this.#sort(n));
      return element('th', { scope: 'col', class: kind }, button);
    });
    byId('channels-head', HTMLElement).append(...this.#heads);
    this.#filter.addEventListener('input', () => this.#show());
    this.#mark();
  }

  show(look: Look): void {
    this.#look = look;
    this.#show();
  }

  /** The same column again turns it round; numbers begin with the largest. */
  #sort(by: number): void {
    this.#way = by === this.#by ? -this.#way : by === 0 ? 1 : -1;
    this.#by = by;
    this.#mark();
    this.#show();
  }

  #mark(): void {
    for (const [n, head] of this.#heads.entries()) {
      if (n === this.#by) head.setAttribute('aria-sort', this.#way === 1 ? 'ascending' : 'descending');
      else head.removeAttribute('aria-sort');
    }
  }

  #show(): void {
    if (!this.#look) return;
    const { channels, moreChannels, health } = this.#look;
    const wanted = this.#filter.value.trim().toLowerCase();
    const found = channels.filter(({ channel }) => channel.toLowerCase().includes(wanted));
    const { value } = COLUMNS[this.#by]!;
    found.sort((a, b) => this.#way * compare(value(a), value(b)) || compare(a.channel, b.channel));
    const shown = found.slice(0, MOST);
    this.#list.show(shown);
    write(byId('channels-count', HTMLElement), count(health.channels));
    const parts = [
      shown.length < found.length ? `${count(shown.length)} of ${count(found.length)} are shown.` : '',
      moreChannels ? `Only the first ${count(MOST_CHANNELS)} by name were looked at.` : '',
      channels.length && !found.length ? 'No channel has this in its name.' : '',
      channels.length ? '' : 'There are no channels: they come with the first subscriber or publication.',
    ];
    write(byId('channels-note', HTMLElement), parts.filter(Boolean).join(' '));
  }
}

const compare = (a: string | number, b: string | number): number => (a < b ? -1 : a > b ? 1 : 0);

function row({ channel }: Lively, chosen: (channel: string) => void): Row<Lively> {
  const name = element('button', { type: 'button', class: 'choose', title: `Publish to ${channel}` }, channel);
  name.addEventListener('click', () => chosen(channel));
  const cells = COLUMNS.slice(1).map(({ kind }) => element('td', { class: kind }));
  return {
    root: element('tr', {}, element('th', { scope: 'row' }, name), ...cells),
    update(channel) {
      for (const [n, cell] of cells.entries()) write(cell, COLUMNS[n + 1]!.text(channel));
    },
  };
}
