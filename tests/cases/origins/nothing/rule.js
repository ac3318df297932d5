export function decide(mail) {
  if (mail.subject === "nobody's") return ticket();
}
