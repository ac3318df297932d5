export function decide(mail, ctx) {
  const job = mail.match("subject", "Backup of (\\S+) failed");
  if (job) return alert({ key: job[1], state: "firing" });
  // A slip of the hand: the group never ends.
  if (mail.match("text", "(disk|volume full")) return ticket();
  for (const host of mail.findAll("text", "(?<=host )\\S+")) console.log(host[0]);
}
