// The host refuses look-ahead, so that match falls back to JavaScript's own engine over a header that the rule repeats.
export function decide(mail) {
  const evil = /(?=(x+x+)+y)/;
  for (;;) {
    mail.match("subject", evil);
    evil.test("x".repeat(40));
  }
}
