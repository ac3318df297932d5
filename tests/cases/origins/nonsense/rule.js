export function decide() {
  return note({ body: "On which ticket?" });
}
