export function decide(mail, ctx) {
  const seen = Number(ctx.kv.get("count") ?? "0") + 1;
  ctx.kv.set("count", String(seen));
  return ticket({ queue: seen > 2 ? "Many" : "Few" });
}
