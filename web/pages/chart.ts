// A line over the last minutes, drawn as SVG.

import { drawing, element, write } from './dom.ts';

const WIDTH = 600;
const HEIGHT = 100;
/** Longest time in ms between two values that are joined: a page that was not looked at has a hole. */
const GAP = 5_000;

interface Sample {
  at: number;
  value: number;
}

export class Chart {
  readonly root: HTMLElement;
  readonly #window: number;
  readonly #format: (value: number) => string;
  readonly #value = element('b');
  readonly #most = element('span');
  readonly #area = drawing('path', { class: 'area' });
  readonly #trace = drawing('path', { class: 'trace' });
  #samples: Sample[] = [];

  /** `window`: time in ms that is shown. */
  constructor(label: string, window: number, format: (value: number) => string) {
    this.#window = window;
    this.#format = format;
    const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' };
    const minutes = window / 60_000;
    this.root = element(
      'figure',
      { class: 'chart' },
      element('figcaption', {}, element('span', {}, label), this.#value),
      drawing('svg', box, this.#area, this.#trace),
      element('div', { class: 'scale' }, element('span', {}, `${minutes} min ago`), this.#most),
    );
  }

  /** Adds a value, `at` in ms; what is older than the window goes. */
  add(at: number, value: number): void {
    this.#samples = this.#samples.filter(sample => at - sample.at <= this.#window);
    this.#samples.push({ at, value });
    const most = Math.max(...this.#samples.map(sample => sample.value));
    write(this.#value, this.#format(value));
    write(this.#most, `at most ${this.#format(most)}`);
    const scale = most > 0 ? (HEIGHT - 4) / most : 0;
    const x = (sample: Sample) => (WIDTH * (1 - (at - sample.at) / this.#window)).toFixed(1);
    const y = (sample: Sample) => (HEIGHT - sample.value * scale).toFixed(1);
    let trace = '';
    let area = '';
    for (const stretch of stretches(this.#samples)) {
      const line = stretch.map(sample => `${x(sample)},${y(sample)}`).join('L');
      trace += `M${line}`;
      area += `M${x(stretch[0]!)},${HEIGHT}L${line}L${x(stretch.at(-1)!)},${HEIGHT}Z`;
    }
    this.#trace.setAttribute('d', trace);
    this.#area.setAttribute('d', area);
  }
}

function stretches(samples: Sample[]): Sample[][] {
  const all: Sample[][] = [];
  for (const sample of samples) {
    const last = all.at(-1);
    if (last && sample.at - last.at(-1)!.at <= GAP) last.push(sample);
    else all.push([sample]);
  }
  return all;
}
