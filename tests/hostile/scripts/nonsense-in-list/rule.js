export function decide() {
  return [ticket(), "note"];
}
