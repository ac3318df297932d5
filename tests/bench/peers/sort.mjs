// The bench's sorting by ten patterns with imapflow and mailparser: fetch, decode, sort, record the outcome, move to
// Processed. One mail at a time, as in the first examples of their documentation; with --bulk, many with one command.

import { createWriteStream, readFileSync } from "node:fs";
import { finished } from "node:stream/promises";
import { ImapFlow } from "imapflow";
import { simpleParser } from "mailparser";

const CHUNK = process.argv.includes("--bulk") ? 128 : 1;
const tickets = new Set();
const state = (firing) => (firing ? "firing" : "resolved");

function place(mail) {
  const subject = mail.subject ?? "";
  let m;
  if ((m = subject.match(/^\*\* (PROBLEM|RECOVERY) Service Alert: ([^/]+)\/(.+) is (\w+) \*\*$/))) {
    return `alert nagios/${m[2]}/${m[3]} ${state(m[1] === "PROBLEM")}`;
  }
  if ((m = subject.match(/^\[(Success|Warning|Failed)\] (.+) \((\d+) machines?\)$/))) {
    return `alert backup/${m[2]} ${state(m[1] !== "Success")}`;
  }
  if ((m = subject.match(/^(Problem|Resolved): (.+) on ([\w.-]+)$/))) {
    return `alert zabbix/${m[3]}/${m[2]} ${state(m[1] === "Problem")}`;
  }
  if (/\b(out of office|automatic reply|abwesend)\b/i.test(subject)) return "ignored out of office";
  // mailparser merges the List- headers into one.
  if (/\S/.test(mail.headers.get("list")?.unsubscribe?.url ?? "")) return "ignored newsletter";
  if (tickets.has(mail.inReplyTo) && /^(re|aw|sv): /i.test(subject)) return "note";
  const text = mail.text ?? "";
  if ((m = text.match(/Volume (\d+) on (\S+) is (\d+)% full/))) {
    return `alert disk/${m[2]}/${m[1]} ${state(Number(m[3]) >= 80)}`;
  }
  if (/Certificate for (\S+) expires in (\d+) days/.test(text)) return "ticket Certificates";
  if (/\b(urgent|asap|cannot work|server down)\b/i.test(text)) return "ticket Urgent";
  if (/\binvoice (no\.?|number) ?(\d{4,})/i.test(text)) return "ticket Billing";
  return "ticket Service desk";
}

const { BENCH_PORT, BENCH_USER, BENCH_PASSWORD, BENCH_CA, BENCH_OUT } = process.env;
const out = createWriteStream(BENCH_OUT);
const client = new ImapFlow({
  host: "localhost",
  port: Number(BENCH_PORT),
  secure: true,
  auth: { user: BENCH_USER, pass: BENCH_PASSWORD },
  tls: { ca: readFileSync(BENCH_CA) },
  logger: false,
});
await client.connect();
await client.mailboxCreate("Processed");
await client.mailboxOpen("INBOX");
const uids = await client.search({ all: true }, { uid: true });
for (let at = 0; at < uids.length; at += CHUNK) {
  const chunk = uids.slice(at, at + CHUNK).join(",");
  for await (const { source } of client.fetch(chunk, { source: true }, { uid: true })) {
    const mail = await simpleParser(source);
    const found = place(mail);
    if (found.startsWith("ticket")) tickets.add(mail.messageId);
    out.write(`${mail.messageId.replace(/[<>]/g, "")}\t${found}\n`);
  }
  await client.messageMove(chunk, "Processed", { uid: true });
}
await client.logout();
out.end();
await finished(out);
