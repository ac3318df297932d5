// A mail without a readable From.

/** @type {Decide} */
export function decide(mail) {
  return mail.from.email.endsWith("@acme.example") ? ticket() : pass(); // TS18047
}
