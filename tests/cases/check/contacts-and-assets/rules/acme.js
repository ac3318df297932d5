export function decide(mail, ctx) {
  const caller = ctx.lookup.contact(mail.from.email);
  return ticket({ priority: caller?.vip ? "high" : "normal" });
}
