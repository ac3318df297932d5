import { firing } from "./lib/common.ts";
import type { Level } from "./lib/common.ts";

interface Known {
  readonly host: string;
}

export function decide(mail: Mail): Answer {
  const known: Known = { host: mail.subject };
  const level = "critical" as Level;
  return firing(known.host satisfies string, level);
}
