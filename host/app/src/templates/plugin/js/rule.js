// An alert for mails such as "DISK srv-01 full"; every other mail is left to the next rule.

// Mail and decision are those of wit/plugin.wit, as JavaScript has them: a variant is { tag, val }, an absent option undefined.
export function decide(message, context) {
  const found = message.match({ tag: "subject" }, String.raw`^DISK (\S+) full`);
  if (!found) return { tag: "pass" };

  const host = found.groups[1];
  const alert = { key: `disk/${host}`, state: "firing", severity: "critical", host, fields: [] };
  return { tag: "actions", val: [{ tag: "alert", val: alert }] };
}
