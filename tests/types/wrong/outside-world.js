// No timers, no network, no modules of Node.

/** @type {Decide} */
export function decide(mail) {
  setTimeout(() => {}, 1000); // TS2304
  fetch("https://psa.example/tickets"); // TS2304
  process.exit(1); // TS2591
  return ticket({ title: mail.subject });
}
