// A rule. It sees one mail and answers what becomes of it; postroom.d.ts says all that `mail` and `ctx` can do.
// Save it while `postroom dev` or `postroom run` runs, and it is live.

/** @type {Decide} */
export function decide(mail, ctx) {
  // Patterns in quotes are run by Postroom in linear time; \\d is a digit.
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

  // An answer to a known ticket is the standard rule's business: it becomes a note.
  if (ctx.thread?.authorised) return pass();

  if (mail.match("subject", "(?i)\\burgent\\b")) {
    return ticket({ queue: ctx.settings.queue, priority: "high" });
  }

  // Not ours: the next rule of the mailbox decides.
  return pass();
}
