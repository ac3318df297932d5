export function decide(mail, ctx) {
  const backup = mail.match("subject", "^Backup (failed|succeeded) on (\\S+)");
  if (backup) {
    return alert({
      key: `backup/${backup[2]}`,
      state: backup[1] === "failed" ? "firing" : "resolved",
      host: backup[2],
    });
  }
  if (mail.match("subject", "(?i)printer|toner")) {
    console.log(`hardware: ${mail.subject}`);
    return ticket({ queue: "Hardware" });
  }
  return pass();
}
