// The chat room: its last lines, everybody's next ones, and what the server tells this user or everybody.

import { type Client, type Data, type Line, type Publication, type Subscription, TidingsError } from '/sdk/index.js';
import { byId, element, write } from './dom.ts';
import { tint } from './person.ts';

const CHANNEL = 'chat-room-lobby';
/** Lines of before that are shown to who comes. */
const LATEST = 20;
/** Most lines that are kept on the page. */
const MOST = 300;
/** Distance in px from the end within which the list follows new lines. */
const NEAR = 60;

/** Shows the room, and returns its subscription. `notices` are the subscriptions of what is told. */
export function chat(client: Client, name: string, notices: Subscription[]): Subscription {
  const room = client.subscribe(CHANNEL, { latest: LATEST });
  room.on('publication', publication => show(publication, name));
  room.on('lagged', ({ from, to }) =>
    remark(`${lines(to - from + 1n)} came too fast and ${to === from ? 'is' : 'are'} missing`),
  );
  room.on('break', ({ missed }) => {
    if (missed === undefined) remark('The server began anew: older lines may be missing');
    else remark(missed === 0n ? 'Connected again, nothing is missing' : `Connected again, ${lines(missed)} missing`);
  });
  room.on('end', ({ code, reason }) => remark(`The room is closed: ${reason} (${code})`));
  for (const notice of notices) {
    notice.on('publication', ({ message }) => {
      if (message.kind === 'notification' || message.kind === 'announcement') append(told(message));
    });
  }
  listen(client);
  void people(client, room);
  return room;
}

function listen(client: Client): void {
  const text = byId('text', HTMLInputElement);
  byId('say', HTMLFormElement).addEventListener('submit', event => {
    event.preventDefault();
    const said = text.value.trim();
    if (!said) return;
    text.value = '';
    client.publish(CHANNEL, said).catch((error: TidingsError) => {
      remark(`Not sent: “${said}”: ${error.message} (${error.code})`, 'failed');
    });
  });
}

function show({ message, publisher, time }: Publication, name: string): void {
  if (message.kind === 'data') append(spoken(message, name, publisher, time));
  else if (message.kind !== 'presence') append(told(message));
}

function spoken(message: Data, name: string, publisher: string | undefined, time: number): HTMLLIElement {
  const who = element('b', {}, publisher ?? 'the server');
  if (publisher !== undefined) tint(who, publisher);
  const by = element('span', { class: 'by' }, who, clock(time));
  return element('li', { class: publisher === name ? 'line own' : 'line' }, by, content(message));
}

function content(message: Data): Node {
  const { contentType, bytes } = message;
  if (contentType.startsWith('text/')) return element('span', { class: 'said' }, message.text());
  if (contentType === 'application/json') return element('code', { class: 'said' }, message.text());
  return element('code', { class: 'said' }, `${bytes.length} bytes of ${contentType}`);
}

function told({ kind, text, timestamp }: Line): HTMLLIElement {
  const what = kind === 'notification' ? 'Notification for you' : 'Announcement';
  const by = element('span', { class: 'by' }, element('b', {}, what), clock(timestamp));
  return element('li', { class: `line told ${kind}` }, by, element('span', { class: 'said' }, text));
}

function remark(text: string, kind = ''): void {
  append(element('li', { class: `line remark ${kind}` }, text));
}

function append(line: HTMLLIElement): void {
  const list = byId('lines', HTMLOListElement);
  const follows = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR || line.classList.contains('own');
  list.append(line);
  while (list.childElementCount > MOST) list.firstElementChild!.remove();
  if (follows) list.scrollTop = list.scrollHeight;
}

function clock(time: number): HTMLTimeElement {
  const date = new Date(time);
  const shown = date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  return element('time', { datetime: date.toISOString(), title: date.toLocaleString() }, shown);
}

const lines = (count: bigint): string => (count === 1n ? '1 line' : `${count} lines`);

/** Says who is here, where the channel's rule has presence. */
async function people(client: Client, room: Subscription): Promise<void> {
  const shown = byId('people', HTMLElement);
  try {
    await room.ready;
    let attendance = await client.presence(CHANNEL);
    const tell = () =>
      write(shown, attendance.users === 1 ? 'only you are here' : `${attendance.users} people are here`);
    if (attendance.users) tell();
    room.on('publication', async publication => {
      if (publication.message.kind !== 'presence') return;
      attendance.apply(publication);
      if (!attendance.complete) attendance = await client.presence(CHANNEL);
      tell();
    });
  } catch (error) {
    // The rule of this server's rooms has none: it is not needed to chat.
    if (!(error instanceof TidingsError)) throw error;
  }
}
