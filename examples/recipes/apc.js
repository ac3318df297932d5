// APC Network Management Card: the event's code identifies the event, whatever the firmware's wording.

const power = { "0x0109": "firing", "0x010F": "firing", "0x010A": "resolved" };
const link = { "0x0102": "firing", "0x0101": "resolved" };
const faultyBattery = "0x0119";

/** @type {Decide} */
export function decide(mail, ctx) {
  const code = mail.field("Code");
  const event = mail.match("text", /^\w+ - (?<text>UPS: .+)$/m)?.groups.text;
  if (!code || !event) return pass();

  const host = mail.field("Name") ?? "UPS";
  if (code === faultyBattery) {
    const fields = { serial: mail.field("Device Serial Number"), location: mail.field("Location") };
    return ticket({ title: `${host}: replace the battery`, body: event, queue: ctx.settings.queue, tags: ["ups"], fields });
  }

  const service = code in power ? "power" : code in link ? "link" : null;
  if (!service) return ignore("a UPS event of no consequence");
  return alert({
    key: `apc/${host}/${service}`,
    state: power[code] ?? link[code],
    severity: code === "0x010F" ? "critical" : "warning",
    host,
    service,
    summary: event,
  });
}
