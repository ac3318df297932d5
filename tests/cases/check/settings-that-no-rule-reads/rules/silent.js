export function decide(mail, ctx) {
  return ticket({ title: ctx.settings.anything });
}
