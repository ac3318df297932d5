/** @type {Decide} */
export function decide(mail, ctx) {
  const caller = ctx.lookup.contact("ann@acme.example");
  const open = ctx.lookup.tickets({ title: "printer" }); // TS2353
  return ticket({ priority: caller.vip ? "high" : open[0].priority }); // TS18047
}
