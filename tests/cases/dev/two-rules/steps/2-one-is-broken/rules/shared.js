export function decide(mail) {
  if (mail.match("subject", "(?i)wi-?fi")) {
    return ticket({ queue: "Network" });
  }
  return pass();
