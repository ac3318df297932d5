// Invoices: a ticket for Accounts with number, amount and date, or a forward if the settings name an address.

const words = /\b(?:invoice|rechnung|facture|factuur|fattura|factura)\b/i;
const dressedUp = /\.(?:pdf|docx?|xlsx?)\.(?:exe|scr|js|vbs|com|lnk)$/i;

const before = /(?<currency>EUR|USD|GBP|[€$£]) ?(?<sum>\d[\d.,]*\d)/;
const after = /(?<sum>\d[\d.,]*\d) ?(?<currency>EUR|USD|GBP|[€$£])/;

/** @type {Decide} */
export function decide(mail, ctx) {
  if (ctx.thread?.authorised) return pass();
  if (mail.attachments.some((file) => dressedUp.test(file.name))) return quarantine("a program dressed up as a document");

  // The name proves nothing: a real PDF begins with %PDF.
  const pdf = mail.attachments.find((file) => /\.pdf$/i.test(file.name) && String.fromCharCode(...file.bytes(0, 4)) === "%PDF");
  if (!pdf || !(mail.match("subject", words) || words.test(pdf.name))) return pass();

  if (typeof ctx.settings.forward === "string") {
    return [forward({ to: ctx.settings.forward }), ignore("an invoice, forwarded to Accounts")];
  }
  const amount = (mail.match("text", before) ?? mail.match("text", after))?.groups;
  return ticket({
    queue: ctx.settings.queue ?? "Accounts",
    fields: {
      invoice: mail.field("Invoice number") ?? mail.field("Rechnungsnummer"),
      amount: amount?.sum,
      currency: amount?.currency,
      due: mail.field("Due date") ?? mail.field("Fällig am"),
      file: pdf.name,
    },
    tags: ["invoice"],
  });
}
