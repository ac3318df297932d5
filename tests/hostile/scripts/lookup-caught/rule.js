// Being over the limit is no exception that a rule may catch and go on from.
export function decide(mail, ctx) {
  for (let i = 0; i < 10000; i++) {
    try {
      ctx.lookup.alerts();
    } catch {}
  }
  return ticket();
}
