// An answer says something.

/** @type {Decide} */
export function decide() {
  return [reply({ html: "<p>Thanks</p>" }), ticket()]; // TS2345 or TS2741
}
