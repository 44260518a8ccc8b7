// Who this tab is, and which colour somebody has.

const KEY = 'tidings.name';
const WHICH = [
  'amber',
  'brisk',
  'calm',
  'early',
  'fair',
  'keen',
  'lucky',
  'mellow',
  'nimble',
  'quiet',
  'sunny',
  'witty',
];
const WHO = [
  'badger',
  'crane',
  'falcon',
  'gecko',
  'heron',
  'ibis',
  'lynx',
  'marten',
  'otter',
  'puffin',
  'robin',
  'wren',
];

const one = <T>(of: readonly T[]): T => of[Math.floor(Math.random() * of.length)]!;

/** A name that lasts as long as this tab: two tabs are two people. */
export function ownName(): string {
  const kept = sessionStorage.getItem(KEY);
  if (kept && /^[\w-]{1,64}$/.test(kept)) return kept;
  const name = `${one(WHICH)}-${one(WHO)}-${10 + Math.floor(Math.random() * 90)}`;
  sessionStorage.setItem(KEY, name);
  return name;
}

/** Gives an element the colour of this name, the same on every screen. */
export function tint(target: HTMLElement | SVGElement, name: string): void {
  let hash = 2_166_136_261;
  for (const character of name) hash = Math.imul(hash ^ character.codePointAt(0)!, 16_777_619);
  target.classList.add('person');
  target.style.setProperty('--hue', String((hash >>> 8) % 360));
}
