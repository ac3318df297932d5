// Damages its environment; the next mail starts from the image, where it is intact.
export function decide(mail) {
  if (Array.prototype.broken) throw new Error("the last mail left something behind");
  Array.prototype.broken = true;
  globalThis.count = (globalThis.count ?? 0) + 1;
  return ticket({ title: `mail ${globalThis.count}` });
}
