// Filled up with blanks to one byte more than a rule may have.
export function decide() {
  return ticket();
}
