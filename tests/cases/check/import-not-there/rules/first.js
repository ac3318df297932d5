import { a } from "./lib/a";
export function decide() {
  return ticket({ queue: a });
}
