export function decide(mail, ctx) {
  for (let i = 0; i < 10000; i++) ctx.lookup.contacts("a" + i);
  return ticket();
}
