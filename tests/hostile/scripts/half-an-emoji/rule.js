// What `slice` leaves of an emoji is no Unicode text. Mails have emojis, so no rule may fail of it.
export function decide(mail) {
  const cut = "Backup 😀".slice(0, 8);
  console.log(cut, [cut]);
  mail.field(cut);
  mail.headers(cut);
  mail.section(cut, cut);
  mail.match("text", cut);
  return ticket({ title: cut, tags: [cut], fields: { text: cut, list: [cut] } });
}
