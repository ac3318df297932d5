export function decide(mail) {
  return mail.match("subject", "[");
}
