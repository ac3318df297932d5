// A pattern that may not be found.

/** @type {Decide} */
export function decide(mail) {
  const host = mail.match("subject", /on (?<host>\S+)/).groups.host; // TS2531
  return alert({ key: host, state: "firing" });
}
