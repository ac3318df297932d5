const { alert: raise } = globalThis;

export function decide(mail) {
  return raise({
    state: "firing",
    key: mail.subject,
  });
}
