// Raises an alert for mails such as "DISK srv-01 full"; leaves every other mail to the next rule.

// Mail and decision have the types of wit/plugin.wit in JavaScript: a variant is { tag, val }, an absent option is undefined.
export function decide(message, context) {
  const found = message.match({ tag: "subject" }, String.raw`^DISK (\S+) full`);
  if (!found) return { tag: "pass" };

  const host = found.groups[1];
  const alert = { key: `disk/${host}`, state: "firing", severity: "critical", host, fields: [] };
  return { tag: "actions", val: [{ tag: "alert", val: alert }] };
}
