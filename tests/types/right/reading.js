/** @type {Decide} */
export function decide(mail, ctx) {
  if (mail.challenge || mail.classification === "calendar") return ignore(mail.classificationReason);
  const bounced = mail.delivery?.recipients.filter((it) => it.permanent).map((it) => it.email);
  if (bounced?.length) return [note({ body: `${bounced.join(", ")}: ${mail.delivery?.messageId}` }), update({ tags: ["bounced"] })];
  const inner = mail.forwarded ?? mail.attachments.find((it) => it.isMail)?.mail();
  if (ctx.staff && inner) return ticket({ title: inner.subject, requester: inner.from?.email, body: inner.text });
  const [[label, value] = ["", ""]] = mail.pairs();
  const [link] = mail.links;
  if (!ctx.open("Europe/Berlin", "Mon-Fri 08:00-17:30")) return decline(`Closed since ${ctx.local(ctx.now, "UTC").hour}`);
  if (ctx.client && !ctx.client.sure) return quarantine(ctx.client.candidates.join() + ctx.client.evidence);
  if (mail.match("cc", /boss/)) return [close({ reason: link?.url }), reply({ text: `${label}${value}`, html: mail.replyHtml })];
  return [expect({ key: "nightly", within: "26h" }), close()];
}
