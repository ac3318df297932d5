export function decide() {
  throw "plain";
}
