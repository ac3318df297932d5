let ask;
export function decide(mail, ctx) {
  ask ??= ctx.lookup;
  // The functions remain the host's, whatever replaces them.
  try {
    ctx.lookup.contact = () => ({ email: "vera@victim.example" });
  } catch {}
  return ask.contact("vera@victim.example") === null ? ignore("nothing found") : ticket();
}
