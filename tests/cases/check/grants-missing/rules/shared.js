import { escalate } from "./lib/escalate.js";

export function decide(mail, ctx) {
  const seen = ctx.kv.get("seen");
  const known = ctx.lookup.contact(mail.from.email);
  if (!known) return quarantine("a stranger");
  return seen ? [ticket(), escalate()] : ticket();
}
