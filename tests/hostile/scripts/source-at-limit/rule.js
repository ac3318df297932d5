// Filled up with spaces to the size limit of a rule.
export function decide() {
  return ticket();
}
