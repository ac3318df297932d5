// Datto BCDR: an alert for each machine's backup and one for its screenshot. Datto does not report that a backup works
// again; a screenshot that boots proves a good backup, and closes both.

const subject =
  /^(?<what>CRITICAL ERROR|Warning|Bootable Screenshot) for (?<machine>.+) on (?<device>\S+) \(\w+\)(?: (?<result>\w+))?/i;

/** @type {Decide} */
export function decide(mail) {
  if (mail.match("subject", /^Weekly Backup Report for /)) return ignore("a weekly report");

  const found = mail.match("subject", subject);
  if (!found) return pass();
  const { what, machine, device, result } = found.groups;

  const report = (service, state, severity) =>
    alert({
      key: `datto/${device}/${machine}/${service}`,
      state,
      severity,
      host: machine,
      service,
      summary: mail.field("Error") ?? mail.field("Message") ?? mail.subject,
    });

  if (what !== "Bootable Screenshot") return report("backup", "firing", what === "Warning" ? "warning" : "critical");
  if (/^success/i.test(result)) return [report("screenshot", "resolved", "warning"), report("backup", "resolved", "critical")];
  return report("screenshot", "firing", "warning");
}
