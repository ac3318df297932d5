export function decide(mail) {
  const made = ["a", "b"].map((name) => {
    return ticket({ title: `${name}: ${mail.subject}` });
  });
  return made[1];
}
