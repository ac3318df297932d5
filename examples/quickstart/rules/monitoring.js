// Nagios mails: one alert per host and service. A RECOVERY closes it; everything else goes to the next rule.

const subject = String.raw`^\*\* (?P<type>PROBLEM|RECOVERY) Service Alert: (?P<host>[^/]+)/(?P<service>.+) is (?P<status>\w+) \*\*$`;

/** @type {Decide} */
export function decide(mail) {
  const found = mail.match("subject", subject);
  if (!found) return pass();
  const { type, host, service, status } = found.groups;
  return alert({
    key: `nagios/${host}/${service}`,
    state: type === "RECOVERY" ? "resolved" : "firing",
    severity: status === "CRITICAL" ? "critical" : "warning",
    host,
    service,
    summary: mail.field("Additional Info") ?? mail.subject,
  });
}
