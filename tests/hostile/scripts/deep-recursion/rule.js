export function decide() {
  const down = (depth) => down(depth + 1) + 1;
  return down(0);
}
