export function decide(mail, ctx) {
  ctx.kv.set("a", "b");
  return alert({ key: "x", state: "firing" });
}
