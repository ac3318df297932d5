// Windows Server Backup: the mail of a scheduled task that is triggered by the events of Microsoft-Windows-Backup.

// Event 4 is a successful end of a backup; event 14 follows every end, successful or not.
const succeeded = "4";
const ended = "14";

/** @type {Decide} */
export function decide(mail) {
  if (mail.field("ProviderName") !== "Microsoft-Windows-Backup") return pass();
  const server = mail.field("MachineName");
  const id = mail.field("Id");
  if (!server) return pass();
  if (id === ended) return ignore("success or failure has a mail of its own");

  // Format-List wraps a long value and indents what follows.
  const message = mail.match("text", /^Message\s*: (?<message>[^\n]+(?:\n +[^\n]+)*)/m)?.groups.message;
  const summary = message?.replace(/\s+/g, " ").match(/^.*?\.(?= |$)/)?.[0];

  return alert({
    key: `windows-backup/${server}`,
    state: id === succeeded ? "resolved" : "firing",
    severity: "critical",
    host: server,
    service: "Windows Server Backup",
    summary,
    fields: { event: id, error: summary?.match(/0x[0-9A-F]{8}/i)?.[0] ?? null },
  });
}
