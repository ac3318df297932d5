// Refused by its length alone, before there is memory to refuse.
export function decide() {
  return ticket({ title: "x".repeat(2 ** 31) });
}
