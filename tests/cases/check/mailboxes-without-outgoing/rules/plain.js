export function decide(mail) {
  return ticket();
}
