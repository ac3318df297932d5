let ask;
export function decide(mail, ctx) {
  ask ??= ctx.lookup;
  // The functions stay the host's, whatever is put in their place.
  try {
    ctx.lookup.contact = () => ({ email: "vera@victim.example" });
  } catch {}
  return ask.contact("vera@victim.example") === null ? ignore("nothing found") : ticket();
}
