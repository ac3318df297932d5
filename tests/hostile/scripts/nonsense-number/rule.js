export function decide() {
  return 42;
}
