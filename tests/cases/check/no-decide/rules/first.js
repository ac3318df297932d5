export function decided(mail) {
  return ticket();
}
