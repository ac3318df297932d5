export function decide(mail, ctx) {
  ctx.lookup.contact("vera@victim.example");
  return ticket();
}
