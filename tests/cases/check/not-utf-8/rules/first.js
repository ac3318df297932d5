// Saved by an editor that knows only windows-1252.
export function decide(mail) {
  return mail.match("subject", "Prüfung") ? ticket() : pass();
}
