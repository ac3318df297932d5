export function decide(mail) {
  if (!mail.match("subject", "(?i)printer")) return pass();
  return ticket({ queue: "Hardware" });
}
