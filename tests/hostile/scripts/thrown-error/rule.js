function customer(mail) {
  throw new Error("no such customer");
}
export function decide(mail) {
  return ticket({ title: customer(mail) });
}
