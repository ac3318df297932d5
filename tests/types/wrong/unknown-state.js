// An alert fires or is resolved.

/** @type {Decide} */
export function decide(mail) {
  return alert({
    key: "disk",
    state: "down", // TS2322
    summary: mail.subject,
  });
}
