// A mail has text and html, and no body.

/** @type {Decide} */
export function decide(mail) {
  if (mail.match("body", /urgent/i)) return ticket(); // TS2345
  if (mail.body.includes("urgent")) return ticket(); // TS2339
}
