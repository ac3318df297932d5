// Zabbix: the problem's number is the key, so a recovery closes the right alert even if the name changes.

const severities = { Disaster: "critical", High: "critical", Average: "warning", Warning: "warning" };

/** @type {Decide} */
export function decide(mail) {
  const found = mail.match("subject", /^(?<event>Problem|Resolved|Updated problem)(?: in [^:]+)?: (?<name>.+)$/);
  if (!found) return pass();
  const { event, name } = found.groups;
  if (event === "Updated problem") return ignore("an update within Zabbix");

  const problem = mail.field("Original problem ID");
  const host = mail.field("Host");
  if (!problem || !host) return pass();

  return alert({
    key: `zabbix/${problem}`,
    state: event === "Resolved" ? "resolved" : "firing",
    severity: severities[mail.field("Severity") ?? ""] ?? "info",
    host,
    service: name,
    summary: [name, mail.field("Operational data")].filter(Boolean).join(": "),
  });
}
