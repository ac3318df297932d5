// Mails with one key are one alert, so there must be one.

/** @type {Decide} */
export function decide() {
  return alert({ state: "firing" }); // TS2345 or TS2741
}
