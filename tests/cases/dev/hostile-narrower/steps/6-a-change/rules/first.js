export function decide(mail) {
  return ticket({ queue: "blue", title: `${mail.subject}\u001b[0m` });
}
