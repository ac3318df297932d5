// Reads mails with mailparser: a path per line on stdin, a reading as a line of JSON on stdout. A field that it has no opinion
// on is null.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { simpleParser } from "mailparser";

// Text that is derived from the HTML, or the other way round, is no opinion of the mail's content.
const OPTIONS = { skipHtmlToText: true, skipTextToHtml: true, skipImageLinks: true, keepCidLinks: true };
// mailparser replaces a date that it cannot parse by the present.
const PRESENT_MS = 24 * 3600 * 1000;

function addresses(field) {
  const all = [];
  const add = (list) => {
    for (const entry of list) {
      if (entry.group) add(entry.group);
      else if (entry.address) all.push({ name: entry.name ?? "", email: entry.address });
    }
  };
  for (const one of [field ?? []].flat()) add(one.value ?? []);
  return all;
}

function ids(field) {
  return [field ?? []].flat().flatMap((text) => text.split(/\s+/)).filter(Boolean);
}

function attachment(part) {
  const type = part.contentType ?? "";
  let content = part.content ?? Buffer.alloc(0);
  const size = content.length;
  if (/^(text|message)\//.test(type)) content = content.filter((byte) => byte > 0x20);
  return { name: part.filename || "", type, size, hash: createHash("sha256").update(content).digest("hex").slice(0, 16) };
}

async function read(path) {
  const mail = await simpleParser(readFileSync(path), OPTIONS);
  let date = null;
  if (!mail.date) date = 0;
  else if (Math.abs(mail.date - Date.now()) > PRESENT_MS) date = Math.floor(mail.date / 1000);
  return {
    subject: mail.subject ?? "",
    from: addresses(mail.from),
    to: addresses(mail.to),
    cc: addresses(mail.cc),
    reply_to: addresses(mail.replyTo),
    date,
    message_id: mail.messageId ?? "",
    in_reply_to: ids(mail.inReplyTo),
    references: ids(mail.references),
    text: mail.text ?? "",
    html: mail.html || "",
    attachments: mail.attachments.map(attachment),
  };
}

const wellFormed = (_, value) => (typeof value === "string" ? value.toWellFormed() : value);

for await (const path of createInterface({ input: process.stdin })) {
  let reading;
  try {
    reading = await read(path);
  } catch (error) {
    reading = { error: String(error) };
  }
  process.stdout.write(JSON.stringify(reading, wellFormed) + "\n");
}
