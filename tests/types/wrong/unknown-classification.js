// A comparison that is never true.

/** @type {Decide} */
export function decide(mail) {
  if (mail.classification === "newsletter") return ignore("a newsletter"); // TS2367
}
