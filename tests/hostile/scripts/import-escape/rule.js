// The path out of the rules' folder.
import secret from "../../../etc/passwd";
export function decide() {
  return ticket({ title: secret });
}
