// Veeam Backup & Replication: one alert per job. Failed and Warning raise it, the next Success closes it.

/** @type {Decide} */
export function decide(mail) {
  const report = mail.match("subject", /^\[(?<result>Success|Warning|Failed)\] (?<job>.+?)(?: \(\d+ .*)?$/);
  if (!report || !mail.match("html", /(?:Backup|Replication|Copy) job:/i)) return pass();
  const { result, job } = report.groups;

  // The report is three nested tables. The innermost has a row per machine: name, status, times, …, message.
  const troubled = mail.table(2).filter(([, status]) => status === "Failed" || status === "Warning");

  return alert({
    key: `veeam/${job}`,
    state: result === "Success" ? "resolved" : "firing",
    severity: result === "Warning" ? "warning" : "critical",
    service: job,
    summary: troubled.map((row) => `${row[0]}: ${row.at(-1)}`).join("; ") || `${job}: ${result}`,
    fields: { machines: troubled.map(([name]) => name).join(", ") || null },
  });
}
