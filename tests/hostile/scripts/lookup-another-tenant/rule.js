// Searches for another tenant's data, by everything it may have heard of and by everything that might be a wildcard.
export function decide(mail, ctx) {
  const { lookup } = ctx;
  const anything = ["%", "_", "*", "?", ".*", "", "' OR 1=1 --", "\" OR \"\"=\"", "x'; DROP TABLE item; --", "\0", "victim", "../victim"];
  const found = [];
  const ask = (call, argument) => {
    const answer = lookup[call](argument);
    if (answer !== null && (!Array.isArray(answer) || answer.length > 0)) found.push([call, answer]);
  };
  for (const email of ["vera@victim.example", "%@victim.example", "victim.example"]) ask("contact", email);
  for (const text of ["vera", ...anything]) ask("contacts", text);
  for (const name of ["SN-VICTIM", "vault", "%"]) ask("asset", name);
  for (const text of ["vault", "SN", "%", ""]) ask("assets", text);
  for (const number of ["T-1", "T-%", "T-1' OR '1'='1", "1", "t-1", "T-01", "T-1\0"]) ask("ticket", number);
  for (const requester of ["vera@victim.example", "%", "' OR ''='"]) ask("tickets", { requester });
  for (const subject of ["vault", "%", "' OR 1=1 --"]) ask("tickets", { subject });
  for (const value of ["code-of-victim", "%"]) ask("tickets", { field: { name: "code", value } });
  for (const name of ["", "%"]) ask("tickets", { field: { name, value: "vera@victim.example" } });
  for (const key of ["vault/door", "%", "victim/vault/door"]) ask("alert", key);
  for (const text of ["vault", "%", "victim"]) ask("alerts", text);
  for (const long of ["x".repeat(600), "%".repeat(100000)]) ask("contacts", long);
  if (found.length > 0) return ticket({ body: JSON.stringify(found) });
  // Only the number of a ticket is public: a note on it must not be accepted either.
  return ignore("nothing found");
}
