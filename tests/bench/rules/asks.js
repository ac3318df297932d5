// Asks two questions of each mail, unless its settings say otherwise. rules/asks does the same, but for the tickets.

export function decide(mail, ctx) {
  const { asks } = ctx.settings;
  if (!asks) return ignore("asked nothing");
  const caller = ctx.lookup.contact(mail.from.email);
  const open = ctx.lookup.tickets({ requester: mail.from.email });
  const answer = `${caller?.name ?? "nobody"} has ${open.length}`;
  // Of somebody else's: the answers stay the same.
  return asks === "and tickets" ? ticket({ title: answer, requester: "desk@acme.example" }) : ignore(answer);
}
