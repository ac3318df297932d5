export function decide(mail) {
  // The name of a constant is missing.
  const = 5;
  return ticket();
}
