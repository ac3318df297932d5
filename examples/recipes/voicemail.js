// Voicemail of Asterisk and FreePBX: a ticket with caller, time and length; the recording stays with the mail.

const announcement =
  /left a (?<length>[\d:]+) long message .*?in mailbox (?<mailbox>\d+) from (?<caller>.+?), on (?<when>.+?) so you might/s;

/** @type {Decide} */
export function decide(mail, ctx) {
  const found = mail.match("text", announcement);
  const recording = mail.attachments.find((file) => file.contentType.startsWith("audio/"));
  if (!found || !recording) return pass();
  const { length, mailbox, caller, when } = found.groups;

  if (/^0:0[0-3]$/.test(length)) return ignore("hung up without a word");

  return ticket({
    title: `Voicemail from ${caller.replace(/"/g, "")}`,
    body: `${length} for mailbox ${mailbox}, ${when}. The recording is ${recording.name}.`,
    queue: ctx.settings.queue,
    fields: { number: mail.headers("X-Asterisk-CallerID")[0], length, mailbox, recording: recording.name, bytes: recording.size },
    tags: ["voicemail"],
  });
}
