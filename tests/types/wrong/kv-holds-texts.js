// Memory holds texts; a number is written as one.

/** @type {Decide} */
export function decide(mail, ctx) {
  const seen = ctx.kv.get("seen") + 1; // TS2531
  ctx.kv.set("seen", Number(seen)); // TS2345
  return pass();
}
