// What `slice` leaves of an emoji is not valid Unicode. Mails contain emojis, so this must not make a rule fail.
export function decide(mail) {
  const cut = "Backup 😀".slice(0, 8);
  console.log(cut, [cut]);
  mail.field(cut);
  mail.headers(cut);
  mail.section(cut, cut);
  mail.match("text", cut);
  return ticket({ title: cut, tags: [cut], fields: { text: cut, list: [cut] } });
}
