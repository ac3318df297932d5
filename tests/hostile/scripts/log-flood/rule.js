// A flood is cut, without other consequences.
export function decide() {
  for (let i = 0; i < 5000; i++) console.log("flood", i, "x".repeat(100));
  return ignore("flooded");
}
