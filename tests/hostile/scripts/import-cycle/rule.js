import { one } from "./lib/queues.js";
export const names = ["first", one];
export function decide() {
  return ticket();
}
