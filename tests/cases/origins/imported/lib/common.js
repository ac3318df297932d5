export function firing(key) {
  return alert({ key, state: "firing" });
}
