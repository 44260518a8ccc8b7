// Elements from TypeScript. Text goes in as text, never as markup.

const SVG = 'http://www.w3.org/2000/svg';

/** What an element may hold. */
export type Child = Node | string;

/** The element of the page with this id. Throws where it is missing or of another kind. */
export function byId<E extends Element>(id: string, kind: new () => E): E {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${kind.name} with the id ${id}`);
  return found;
}

/** A new element with these attributes and children. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A new SVG element with these attributes and children. */
export function drawing<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...children: Child[]
): SVGElementTagNameMap[K] {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Sets the text where it differs, so that nothing is selected away or read out again. */
export function write(target: Element, text: string): void {
  if (target.textContent !== text) target.textContent = text;
}

/** What shows one item of a list, and how it takes in the next state of it. */
export interface Row<T> {
  root: Element;
  update(item: T): void;
}

/** The children of `parent`, one for each item, by a key: what stays keeps its element, its focus and whether it is open. */
export class List<T> {
  readonly #parent: Element;
  readonly #key: (item: T) => string;
  readonly #make: (item: T) => Row<T>;
  #rows: Map<string, Row<T>> = new Map();

  constructor(parent: Element, key: (item: T) => string, make: (item: T) => Row<T>) {
    this.#parent = parent;
    this.#key = key;
    this.#make = make;
  }

  show(items: readonly T[]): void {
    const rows = new Map<string, Row<T>>();
    for (const item of items) {
      const key = this.#key(item);
      const row = this.#rows.get(key) ?? this.#make(item);
      row.update(item);
      rows.set(key, row);
    }
    for (const [key, { root }] of this.#rows) if (!rows.has(key)) root.remove();
    this.#rows = rows;
    let next = this.#parent.firstElementChild;
    for (const { root } of rows.values()) {
      if (root === next) next = next.nextElementSibling;
      else this.#parent.insertBefore(root, next);
    }
  }
}
