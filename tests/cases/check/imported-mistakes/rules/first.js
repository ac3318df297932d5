import { find } from "./lib/find.js";
export function decide(mail) {
  if (find(mail)) return ticket();
}
