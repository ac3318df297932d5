export function decide() {
  for (;;) {}
}
