// Makes two lookups for each mail, unless its settings say otherwise. rules/asks does the same, except for the tickets.

export function decide(mail, ctx) {
  const { asks } = ctx.settings;
  if (!asks) return ignore("asked nothing");
  const caller = ctx.lookup.contact(mail.from.email);
  const open = ctx.lookup.tickets({ requester: mail.from.email });
  const answer = `${caller?.name ?? "nobody"} has ${open.length}`;
  // For another requester, so the results stay the same.
  return asks === "and tickets" ? ticket({ title: answer, requester: "desk@acme.example" }) : ignore(answer);
}
