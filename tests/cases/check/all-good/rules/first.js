export function decide(mail) {
  if (mail.match("subject", "(?i)urgent")) return ticket({ priority: "high" });
}
