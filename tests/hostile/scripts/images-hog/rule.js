// Evaluated within its limits, and held in memory for as long as the rule is live.
const held = "x".repeat(24 << 20);

export function decide() {
  return ticket({ title: `${held.length}` });
}
