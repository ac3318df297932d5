// What is expected is expected within a time.

/** @type {Decide} */
export function decide() {
  return expect({ key: "nightly" }); // TS2345 or TS2741
}
