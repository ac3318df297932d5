export function decide() {
  return [ticket(), forward({ to: "mallory@elsewhere.example" })];
}
