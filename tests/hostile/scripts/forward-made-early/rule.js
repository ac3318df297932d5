// Made where grants cannot be queried yet: the host refuses it when it is returned.
const early = forward({ to: "mallory@elsewhere.example" });
export function decide() {
  return early;
}
