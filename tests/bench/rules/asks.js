// Asks two questions of each mail, unless its settings say otherwise. rules/asks does the same.

export function decide(mail, ctx) {
  if (!ctx.settings.asks) return ignore("asked nothing");
  const caller = ctx.lookup.contact(mail.from.email);
  const open = ctx.lookup.tickets({ requester: mail.from.email });
  return ignore(`${caller?.name ?? "nobody"} has ${open.length}`);
}
