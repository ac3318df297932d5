// A mail that belongs to no ticket.

/** @type {Decide} */
export function decide(mail, ctx) {
  return note({ ticket: ctx.thread.ticket, body: mail.reply }); // TS18047
}
