import { word } from "./lib/words.js";

export function decide(mail) {
  return mail.match("subject", word) ? ticket() : pass();
}
