import { a } from "./lib/a.js";
export function decide() {
  return ticket({ queue: a });
}
