// Words are no action, and neither is an object of one's own.

/** @type {Decide} */
export function decide(mail) {
  if (mail.classification === "list") return "ignore"; // TS2322
  return { kind: "ticket" }; // TS2322
}
