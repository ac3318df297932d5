// A key that no ticket has.

/** @type {Decide} */
export function decide(mail) {
  return ticket({
    titel: mail.subject, // TS2561
  });
}
