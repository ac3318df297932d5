export function decide() {
  // Not forward(), not kv.get().
  return ticket();
}
