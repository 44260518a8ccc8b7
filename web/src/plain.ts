// Events and results that `JSON.stringify` takes.

/** A `bigint` as decimal digits; everything else as it is. */
const toJSON = {
  value(this: object) {
    return Object.fromEntries(
      Object.entries(this).map(([name, value]) => [name, typeof value === 'bigint' ? `${value}` : value]),
    );
  },
};

/** The same object, which `JSON.stringify` takes from now on: its bigints become decimal digits. */
export const plain = <T extends object>(value: T): T => Object.defineProperty(value, 'toJSON', toJSON);
