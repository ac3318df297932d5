// A note is public or internal.

/** @type {Decide} */
export function decide() {
  return note({ body: "seen", visibility: "private" }); // TS2322
}
