import { queues, type Queue } from "./lib/queues.ts";
import { severity } from "./lib/severity.js";

export function decide(mail: Mail): Action {
  const queue: Queue = queues[0] satisfies Queue;
  return ticket({ queue, priority: severity(mail) });
}
