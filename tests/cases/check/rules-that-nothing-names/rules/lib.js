export const title = (mail) => mail.subject;
