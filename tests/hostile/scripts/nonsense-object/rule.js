export function decide() {
  return { kind: "ticket", title: "not made by ticket()" };
}
