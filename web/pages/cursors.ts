// Shared cursors: publishes where the pointer is, and shows where everybody else's are. Each place replaces the one before, so the
// channel's rule lets them travel as datagrams.

import { type Client, parsePosition, type Subscription } from '/sdk/index.js';
import { type Place, Pointers } from './pointers.ts';

const CHANNEL = 'playground-cursors';
/** Shortest time in ms between two places that are published. */
const PACE = 1_000 / 60;
/** Most publishes whose answers are not there yet: on a slow network places are left out, not queued. */
const UNANSWERED = 32;
/** How far an arrow key goes, as a part of the field; with shift. */
const STEP = 0.02;
const LEAP = 0.1;

/** Makes the field work, and returns its subscription. */
export async function cursors(client: Client, field: HTMLElement, name: string): Promise<Subscription> {
  const pointers = new Pointers(field);
  const tab = crypto.getRandomValues(new Uint32Array(1))[0]!;
  const publish = paced(place => client.publish(CHANNEL, encode(tab, place), { echo: false }));
  listen(field, publish, place => pointers.move('own', name, place));

  // Its newest publication comes first, whoever left it there; nobody is at that place now.
  const { kept } = await client.history(CHANNEL, { limit: 1, reverse: true });
  const subscription = client.subscribe(CHANNEL);
  subscription.on('publication', ({ position, publisher, message }) => {
    const { epoch, offset } = parsePosition(position);
    if (message.kind !== 'data' || (epoch === kept?.epoch && offset <= kept.last)) return;
    const decoded = decode(message.bytes);
    if (decoded && decoded.tab !== tab) pointers.move(String(decoded.tab), publisher ?? 'somebody', decoded.place);
  });
  return subscription;
}

/** Eight bytes: the tab, and the place in 65535ths of the field, all big endian. */
function encode(tab: number, { x, y }: Place): Uint8Array {
  const view = new DataView(new ArrayBuffer(8));
  view.setUint32(0, tab);
  view.setUint16(4, Math.round(x * 65_535));
  view.setUint16(6, Math.round(y * 65_535));
  return new Uint8Array(view.buffer);
}

/** `undefined` for what is none: anybody may publish here. */
function decode(bytes: Uint8Array): { tab: number; place: Place } | undefined {
  if (bytes.length !== 8) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, 8);
  return { tab: view.getUint32(0), place: { x: view.getUint16(4) / 65_535, y: view.getUint16(6) / 65_535 } };
}

/** Sends the newest place, as often as {@link PACE} allows; the last one always. */
function paced(send: (place: Place) => Promise<unknown>): (place: Place) => void {
  let next: Place | undefined;
  let timer = 0;
  let sent = 0;
  let unanswered = 0;
  const flush = () => {
    timer = 0;
    if (!next || unanswered >= UNANSWERED) return;
    const place = next;
    next = undefined;
    sent = performance.now();
    unanswered++;
    // What is lost is replaced by the next place.
    void send(place)
      .catch(() => {})
      .then(() => {
        unanswered--;
        if (next && !timer) flush();
      });
  };
  return place => {
    next = place;
    timer ||= window.setTimeout(flush, Math.max(0, PACE - (performance.now() - sent)));
  };
}

function listen(field: HTMLElement, publish: (place: Place) => void, show: (place: Place) => void): void {
  let place: Place = { x: 0.5, y: 0.5 };
  const go = (to: Place) => {
    place = { x: inside(to.x), y: inside(to.y) };
    publish(place);
  };
  const point = (event: PointerEvent) => {
    const { left, top } = field.getBoundingClientRect();
    go({
      x: (event.clientX - left - field.clientLeft) / field.clientWidth,
      y: (event.clientY - top - field.clientTop) / field.clientHeight,
    });
    // A mouse shows where it is; a finger hides it.
    if (event.pointerType !== 'mouse') show(place);
  };
  field.addEventListener('pointermove', point);
  field.addEventListener('pointerdown', event => {
    field.setPointerCapture(event.pointerId);
    point(event);
  });
  field.addEventListener('keydown', event => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!way || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const step = event.shiftKey ? LEAP : STEP;
    go({ x: place.x + way[0]! * step, y: place.y + way[1]! * step });
    show(place);
  });
}

const inside = (value: number): number => Math.min(1, Math.max(0, value));
