const host = (mail) => mail.subject;

export function decide(mail) {
  // Not yet: ticket({
  if (/alert\(/.test(mail.text)) return pass();
  return alert({
    key: `backup/${host(mail)})`,
    state: "firing", // )
    host: host(
      mail,
    ),
    summary: `${mail.subject} ${[1, 2].map((n) => `${n})`).join(
      mail.subject,
    )}`,
  });
}
