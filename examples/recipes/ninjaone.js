// NinjaOne: a condition that triggers raises an alert, its reset closes it. Low priorities become tickets for the morning.

/** @type {Decide} */
export function decide(mail, ctx) {
  const event = mail.match("subject", /\bcondition (?<event>triggered|reset)\b/i);
  const device = mail.field("Device");
  const condition = mail.field("Condition");
  if (!event || !device || !condition) return pass();

  const state = event.groups.event.toLowerCase() === "reset" ? "resolved" : "firing";
  const message = mail.field("Message") ?? mail.subject;

  if (state === "firing" && mail.field("Priority") === "Low") {
    return ticket({
      title: `${device}: ${condition}`,
      body: message,
      queue: ctx.settings.queue,
      priority: "low",
      fields: { device, organization: mail.field("Organization") },
    });
  }
  return alert({
    key: `ninjaone/${device}/${condition}`,
    state,
    severity: mail.field("Severity")?.toLowerCase(),
    host: device,
    service: condition,
    summary: message,
    fields: { organization: mail.field("Organization") },
  });
}
