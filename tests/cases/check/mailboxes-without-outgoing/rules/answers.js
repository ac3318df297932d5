export function decide(mail) {
  return [ticket(), reply({ text: "thanks" })];
}
