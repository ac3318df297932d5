// The bench's sorting by ten patterns as a script. rules/ten, peers/sort.py and peers/sort.mjs do the same.

const firing = (isFiring) => (isFiring ? "firing" : "resolved");

export function decide(mail, ctx) {
  let m;
  if ((m = mail.match("subject", /^\*\* (PROBLEM|RECOVERY) Service Alert: ([^\/]+)\/(.+) is (\w+) \*\*$/))) {
    return alert({ key: `nagios/${m[2]}/${m[3]}`, state: firing(m[1] === "PROBLEM"), host: m[2], service: m[3] });
  }
  if ((m = mail.match("subject", /^\[(Success|Warning|Failed)\] (.+) \((\d+) machines?\)$/))) {
    return alert({ key: `backup/${m[2]}`, state: firing(m[1] !== "Success"), service: m[2] });
  }
  if ((m = mail.match("subject", /^(Problem|Resolved): (.+) on ([\w.-]+)$/))) {
    return alert({ key: `zabbix/${m[3]}/${m[2]}`, state: firing(m[1] === "Problem"), host: m[3] });
  }
  if (mail.match("subject", /\b(out of office|automatic reply|abwesend)\b/i)) return ignore("out of office");
  if (mail.match("header:list-unsubscribe", /\S/)) return ignore("newsletter");
  if (ctx.thread?.authorised && mail.match("subject", /^(re|aw|sv): /i)) return note();
  if ((m = mail.match("text", /Volume (\d+) on (\S+) is (\d+)% full/))) {
    return alert({ key: `disk/${m[2]}/${m[1]}`, state: firing(Number(m[3]) >= 80), host: m[2] });
  }
  if (mail.match("text", /Certificate for (\S+) expires in (\d+) days/)) return ticket({ queue: "Certificates" });
  if (mail.match("text", /\b(urgent|asap|cannot work|server down)\b/i)) return ticket({ queue: "Urgent" });
  if (mail.match("text", /\binvoice (no\.?|number) ?(\d{4,})/i)) return ticket({ queue: "Billing" });
  return ticket({ queue: "Service desk" });
}
