// The parts of an attachment, and that its text is asked for.

/** @type {Decide} */
export function decide(mail) {
  for (const file of mail.attachments) {
    if (file.filename === "report.txt") return ignore("a report"); // TS2339
    if (file.text.includes("failed")) return ticket(); // TS2339
  }
}
