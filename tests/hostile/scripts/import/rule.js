// One file is one rule.
import { customers } from "./names.js";
export function decide() {
  return ticket({ title: customers[0] });
}
