// Filled up with spaces to one byte more than the size limit of a rule.
export function decide() {
  return ticket();
}
