// Backup reports: a failed job raises an alert, the next success closes it, a warning is a ticket.

/** @type {Decide} */
export function decide(mail) {
  const report = mail.match("subject", /^Backup (?<job>.+) on (?<host>\S+): (?<result>failed|succeeded|warning)$/i);
  if (!report) return pass();

  const { job, host, result } = report.groups;
  const message = mail.match("text", /^Message: (.+)$/m)?.[1];

  if (result.toLowerCase() === "warning") {
    return ticket({
      title: `Backup ${job} on ${host} ended with a warning`,
      body: message,
      queue: "backup",
      fields: { host, job },
    });
  }
  return alert({
    key: `backup/${host}/${job}`,
    state: result.toLowerCase() === "failed" ? "firing" : "resolved",
    severity: "critical",
    host,
    service: job,
    summary: message,
  });
}
