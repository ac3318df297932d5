// Refused because of its length alone, before any memory is allocated.
export function decide() {
  return ticket({ title: "x".repeat(2 ** 31) });
}
