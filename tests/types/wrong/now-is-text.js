// The time comes as text.

/** @type {Decide} */
export function decide(mail, ctx) {
  return ctx.now.getHours() < 7 ? ignore("night") : pass(); // TS2339
}
