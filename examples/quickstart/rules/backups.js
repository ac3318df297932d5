// Backup reports: a success clears the job's alert, a failure raises it, a warning becomes a ticket that somebody reads.

/** @type {Decide} */
export function decide(mail, ctx) {
  const veeam = mail.match("subject", String.raw`^\[(?P<result>Success|Warning|Failed)\] (?P<job>.+?) \(\d+ machines?\)`);
  if (veeam) {
    const { result, job } = veeam.groups;
    if (result === "Warning") {
      return ticket({ title: `Backup warning: ${job}`, queue: ctx.settings.queue, priority: "low", tags: ["backup"] });
    }
    return alert({
      key: `backup/${job}`,
      state: result === "Success" ? "resolved" : "firing",
      severity: "critical",
      service: job,
      summary: mail.field("Error") ?? `${job}: ${result}`,
    });
  }

  const volume = mail.match("text", String.raw`Volume (?P<volume>\d+) on (?P<nas>\S+) is (?P<percent>\d+)% full`);
  if (volume) {
    const { nas, percent } = volume.groups;
    return alert({
      key: `disk/${nas}/${volume.groups.volume}`,
      state: Number(percent) >= 80 ? "firing" : "resolved",
      severity: Number(percent) >= 95 ? "critical" : "warning",
      host: nas,
      summary: `${percent}% full`,
    });
  }
}
