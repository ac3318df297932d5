// Fits into memory, but not into a decision.
export function decide() {
  return ticket({ title: "large", body: "x".repeat(4 * 1024 * 1024) });
}
