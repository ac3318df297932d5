export function decide() {
  return Array.from({ length: 65 }, () => ticket());
}
