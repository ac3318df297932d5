export function decide(mail) {
  if (mail.subject === "nobody's") return ignore("not this one");
  return ticket({
    queue: "Service desk",
  });
}
