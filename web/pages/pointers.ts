// Everybody's pointers in the field: where they are, and how they get there.

import { drawing, element } from './dom.ts';
import { tint } from './person.ts';

/** Silence in ms after which a pointer goes. */
const SILENCE = 4_000;
/** How long it fades, in ms. */
const FADE = 300;
/** Most pointers that are shown; of more, those who come last are not. */
const MOST = 64;
/** Time in ms in which two thirds of the way to the newest place are gone. */
const EASE = 45;
/** Part of the field's width, from the right, in which names stand on the left. */
const EDGE = 0.75;

/** A place in the field, both from 0 to 1. */
export interface Place {
  x: number;
  y: number;
}

interface Pointer {
  root: HTMLElement;
  at: Place;
  to: Place;
  heard: number;
}

export class Pointers {
  readonly #field: HTMLElement;
  readonly #still = matchMedia('(prefers-reduced-motion: reduce)');
  readonly #shown: Map<string, Pointer> = new Map();
  #frame = 0;
  #before = 0;

  constructor(field: HTMLElement) {
    this.#field = field;
  }

  /** Somebody's pointer is here now; `key` tells it from others of the same name. */
  move(key: string, name: string, to: Place): void {
    let pointer = this.#shown.get(key);
    if (!pointer) {
      if (this.#shown.size >= MOST) return;
      pointer = { root: arrow(name), at: to, to, heard: 0 };
      this.#shown.set(key, pointer);
      this.#field.append(pointer.root);
    }
    pointer.to = to;
    pointer.heard = performance.now();
    pointer.root.classList.remove('leaving');
    if (!this.#frame) {
      this.#before = performance.now();
      this.#frame = requestAnimationFrame(() => this.#draw());
    }
  }

  #draw(): void {
    const now = performance.now();
    const step = this.#still.matches ? 1 : 1 - Math.exp((this.#before - now) / EASE);
    this.#before = now;
    const { clientWidth, clientHeight } = this.#field;
    for (const [key, pointer] of this.#shown) {
      const { root, at, to, heard } = pointer;
      pointer.at = { x: at.x + (to.x - at.x) * step, y: at.y + (to.y - at.y) * step };
      root.style.transform = `translate(${pointer.at.x * clientWidth}px, ${pointer.at.y * clientHeight}px)`;
      root.classList.toggle('turned', pointer.at.x > EDGE);
      root.classList.toggle('leaving', now - heard > SILENCE);
      if (now - heard > SILENCE + FADE) {
        root.remove();
        this.#shown.delete(key);
      }
    }
    this.#frame = this.#shown.size ? requestAnimationFrame(() => this.#draw()) : 0;
  }
}

function arrow(name: string): HTMLElement {
  const shape = drawing(
    'svg',
    { viewBox: '0 0 16 20', 'aria-hidden': 'true' },
    drawing('path', { d: 'M1 1v15l4.2-3.8 2.9 6.3 2.8-1.3-2.9-6.1H14z' }),
  );
  const root = element('div', { class: 'pointer', 'data-name': name });
  root.append(shape, element('span', {}, element('b', { class: 'label' }, name)));
  tint(root, name);
  return root;
}
