// Nagios and similar: one alert per host, and one per service of a host. RECOVERY closes it; acknowledgements are ignored.

const subject = /^\*\* (?<type>\w+) (?:Host|Service) Alert: (?<host>[^/ ]+)(?:\/(?<service>.+))? is (?<state>\w+) \*\*$/;
const severities = { DOWN: "critical", CRITICAL: "critical", UNREACHABLE: "warning", WARNING: "warning", UNKNOWN: "warning" };

/** @type {Decide} */
export function decide(mail) {
  const found = mail.match("subject", subject);
  if (!found) return pass();
  const { type, host, service, state } = found.groups;
  if (type !== "PROBLEM" && type !== "RECOVERY") return ignore(`Nagios: ${type.toLowerCase()}`);

  return alert({
    key: service ? `nagios/${host}/${service}` : `nagios/${host}`,
    state: type === "RECOVERY" ? "resolved" : "firing",
    severity: severities[state] ?? "critical",
    host,
    service,
    // A host's message is on the line of its label, a service's some lines below.
    summary: mail.field("Info") || mail.section("Additional Info:")?.trim() || mail.subject,
  });
}
