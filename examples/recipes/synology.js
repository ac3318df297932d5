// Synology DSM: failed backups, degraded storage and full volumes raise alerts; the recovery of the same thing closes them.

const events = [
  {
    pattern: /Backup task "?(?<what>[^"\n]+?)"? (?:on \S+ )?(?:has |was )?(?<news>completed successfully|failed|cancell?ed)/i,
    kind: "backup",
  },
  { pattern: /(?<what>(?:Volume|Storage Pool) \d+) on \S+ (?:has |was )?(?<news>degraded|crashed|repaired)/i, kind: "storage" },
  { pattern: /(?<what>Volume \d+) on \S+ is (?<news>running out of space|back below its limit|\d+% full)/i, kind: "space" },
];
const good = /^(completed successfully|repaired|back below its limit)$/i;

/** @type {Decide} */
export function decide(mail) {
  const nas = mail.match("subject", /^\[(?<nas>[^\]]+)\]/)?.groups.nas;
  if (!nas) return pass();

  for (const { pattern, kind } of events) {
    const found = mail.match("text", pattern);
    if (!found) continue;
    const { what, news } = found.groups;
    return alert({
      key: `synology/${nas}/${kind}/${what.toLowerCase()}`,
      state: good.test(news) ? "resolved" : "firing",
      severity: /crashed|failed/i.test(news) ? "critical" : "warning",
      host: nas,
      service: what,
      summary: found[0],
    });
  }
  return pass();
}
