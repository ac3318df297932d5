export function decide(mail) {
  return ticket({ title: mail.subject );
}
