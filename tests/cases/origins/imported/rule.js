import { set } from "./lib/backup.js";

export function decide(mail) {
  return set(mail);
}
