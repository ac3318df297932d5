export const settings = { queue: "where tickets go", "sla hours": "hours" };

export function decide(mail, ctx) {
  return ticket({ queue: ctx.settings.queue });
}
