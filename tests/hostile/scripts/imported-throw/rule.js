import { queue } from "./lib/queues.js";
export function decide(mail) {
  return ticket({ queue: queue(mail) });
}
