export function decide() {
  return ticket({ titel: "Disk full" });
}
