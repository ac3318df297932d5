// What is read out of a mail may be missing, and the arguments of new calls have their types.

/** @type {Decide} */
export function decide(mail, ctx) {
  if (mail.calendar.uid) return pass(); // TS18047
  if (mail.delivery?.recipients[0].adress) return pass(); // TS2339
  update({ status: "resolved" }); // TS2322
  ctx.open("Mon-Fri 08:00-17:30"); // TS2554
  decline({ text: "no" }); // TS2345
  return ignore(ctx.local(ctx.now, "UTC").zone); // TS2339
}
