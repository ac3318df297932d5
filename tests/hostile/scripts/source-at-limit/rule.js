// Filled up with blanks to all that a rule may have.
export function decide() {
  return ticket();
}
