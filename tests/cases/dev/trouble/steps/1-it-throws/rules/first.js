export function decide(mail, ctx) {
  const backup = mail.match("subject", "^Backup (failed|succeeded) on (\\S+)");
  if (backup) {
    return ticket({ queue: "Backups", priority: "low" });
  }
  if (mail.match("subject", "(?i)printer|toner")) {
    console.log(`hardware: ${mail.subject}`);
    return ticket({ queue: "Hardware" });
  }
  return pass(mail.subject.nothing.there);
}
