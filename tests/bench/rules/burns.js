// Burns the whole of its time limit for each mail.

export function decide() {
  while (true) {}
}
