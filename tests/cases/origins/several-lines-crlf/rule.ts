export function decide(mail: Mail): Answer {
  const größe: string = mail.subject;
  /* ü */ return ticket({
    title: "ä" as string,
    body: größe satisfies string,
  });
}
