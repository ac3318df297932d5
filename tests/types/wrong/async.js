// A decision is not waited for.

/** @type {Decide} */ export const decide = async (mail) => ticket({ title: mail.subject }); // TS1065 or TS2322
