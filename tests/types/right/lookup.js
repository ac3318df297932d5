/** @type {Decide} */
export function decide(mail, ctx) {
  const { lookup } = ctx;
  const caller = mail.from && lookup.contact(mail.from.email);
  const thing = lookup.asset("db1") ?? lookup.assets("db")[0];
  const known = [
    ...lookup.tickets({ requester: "ann@acme.example" }),
    ...lookup.tickets({ subject: "disk" }),
    ...lookup.tickets({ field: { name: "code", value: 7 } }),
  ];
  const firing = lookup.alert("disk/db1")?.state === "firing" || lookup.alerts().length > 0;
  if (known[0] && lookup.ticket(known[0].ticket)) return note({ ticket: known[0].ticket });
  return ticket({
    priority: caller?.vip || firing ? "high" : "normal",
    fields: { floor: caller?.fields.floor, serial: thing?.serial, others: lookup.contacts("acme").map((it) => it.name) },
  });
}
