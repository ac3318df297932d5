const key = (mail) => `disk/${mail.subject}`;

const firing = (mail) => alert({ key: key(mail), state: "firing" });

function judge(mail) {
  const made = firing(mail);
  made.severity = "critical";
  return made;
}

export function decide(mail) {
  if (mail.text) {
    return judge(mail);
  }
}
