import { title } from "./lib.js";
export function decide(mail) {
  return ticket({ title: title(mail) });
}
