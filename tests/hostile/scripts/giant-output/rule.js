export function decide() {
  return ticket({ title: "giant", body: "x".repeat(100 * 1024 * 1024) });
}
