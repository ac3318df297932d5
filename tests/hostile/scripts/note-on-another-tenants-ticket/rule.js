export function decide() {
  return note({ ticket: "T-1", body: "let me in" });
}
