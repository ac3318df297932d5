export const severity = (mail) => (mail.match("subject", "(?i)urgent") ? "high" : "normal");
