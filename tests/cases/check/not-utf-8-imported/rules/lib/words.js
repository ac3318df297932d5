// windows-1252
export const word = "Prüfung";
