// Exceeding the limit is not an exception that a rule may catch.
export function decide(mail, ctx) {
  for (let i = 0; i < 10000; i++) {
    try {
      ctx.lookup.alerts();
    } catch {}
  }
  return ticket();
}
