// Made where nobody can be asked yet: the host refuses it when it is returned.
const early = forward({ to: "mallory@elsewhere.example" });
export function decide() {
  return early;
}
