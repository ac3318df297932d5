export function queue(mail) {
  return mail.;
}
