// A rule. It receives one mail and returns the decision; postroom.d.ts documents `mail` and `ctx`.
// Save it while `postroom dev` or `postroom run` is running, and it goes live.

/** @type {Decide} */
export function decide(mail, ctx) {
  // Postroom runs patterns in quotes in linear time; \\d is a digit.
  const backup = mail.match("subject", "^Backup (failed|succeeded) on (\\S+)");
  if (backup) {
    return alert({
      key: `backup/${backup[2]}`,
      state: backup[1] === "failed" ? "firing" : "resolved",
      severity: "warning",
      host: backup[2],
      summary: mail.subject,
    });
  }

  // The standard rule turns a reply to a known ticket into a note.
  if (ctx.thread?.authorised) return pass();

  if (mail.match("subject", "(?i)\\burgent\\b")) {
    return ticket({ queue: ctx.settings.queue, priority: "high" });
  }

  // Not for this rule: the next rule of the mailbox decides.
  return pass();
}
