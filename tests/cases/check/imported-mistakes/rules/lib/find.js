export function find(mail) {
  return mail.match("text", "(disk|volume");
}
