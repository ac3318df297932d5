// A mail is read, not written.

/** @type {Decide} */
export function decide(mail) {
  mail.subject = mail.subject.trim(); // TS2540
  return pass();
}
