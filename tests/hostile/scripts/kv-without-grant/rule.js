export function decide(mail, ctx) {
  ctx.kv.get("seen");
  return ticket();
}
