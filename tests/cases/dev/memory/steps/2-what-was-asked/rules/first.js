export function decide(mail, ctx) {
  const seen = Number(ctx.kv.get("seen") ?? "0") + 1;
  ctx.kv.set("seen", String(seen));
  return ticket({ queue: seen > 3 ? "Many" : "Few" });
}
