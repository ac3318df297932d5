// The function instead of what it answers.

/** @type {Decide} */
export function decide() {
  return pass; // TS2322
}
