// Mail written by people. Automatic replies are ignored; urgent words raise the priority.

/** @type {Decide} */
export function decide(mail, ctx) {
  if (mail.classification === "auto-reply") return ignore("out of office");
  if (mail.classification === "list") return ignore("newsletter");

  if (mail.attachments.some((file) => /\.(exe|js|scr|vbs)$/i.test(file.name))) {
    return quarantine("an attachment that runs");
  }

  // The standard rule turns a reply to a known ticket into a note.
  if (ctx.thread?.authorised) return pass();

  if (mail.match("subject", "(?i)urgent|asap|cannot work|down")) {
    return ticket({ priority: "high", queue: "Service desk", tags: ["urgent"] });
  }
}
