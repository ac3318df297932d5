export function decide(mail) {
  const number = mail.match("subject", "no-such")[1];
  return ticket({ title: number });
}
