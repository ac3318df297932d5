// Uses its whole time limit for each mail.

export function decide() {
  while (true) {}
}
