// Numbers for people.

export const count = (value: number): string => value.toLocaleString();

export const milliseconds = (ms: number): string => `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;

/** Per second; a dash where it is not known. */
export const rate = (value: number | undefined): string =>
  value === undefined ? '–' : value === 0 || value >= 10 ? count(Math.round(value)) : value.toFixed(1);

export function bytes(value: number): string {
  if (value < 1_000) return `${value} B`;
  const [unit, size] = value < 1e6 ? ['kB', 1e3] : value < 1e9 ? ['MB', 1e6] : (['GB', 1e9] as const);
  const scaled = value / Number(size);
  return `${scaled < 10 ? scaled.toFixed(1) : Math.round(scaled)} ${unit}`;
}
