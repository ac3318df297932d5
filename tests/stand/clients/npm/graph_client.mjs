// Microsoft's own Graph client for JavaScript against the double: what differs from the real service must show here.
//
// Environment: GRAPH_URL (without the version), GRAPH_TOKEN, GRAPH_MAILBOX, NODE_EXTRA_CA_CERTS.
// The inbox holds 23 mails named "mail 0" to "mail 22", delivered in this order. The first request is throttled.
import assert from "node:assert/strict";
import { Client, GraphError, PageIterator, ResponseType } from "@microsoft/microsoft-graph-client";

const { GRAPH_URL, GRAPH_TOKEN, GRAPH_MAILBOX } = process.env;
const client = Client.init({
  baseUrl: GRAPH_URL,
  customHosts: new Set(["localhost"]),
  fetchOptions: { headers: { Prefer: 'IdType="ImmutableId"' } },
  authProvider: (done) => done(null, GRAPH_TOKEN),
});
const mailbox = `/users/${GRAPH_MAILBOX}`;
const inbox = `${mailbox}/mailFolders/inbox`;

async function everything(first) {
  const found = [];
  const iterator = new PageIterator(client, first, (mail) => found.push(mail) > 0);
  await iterator.iterate();
  return { found, delta: iterator.getDeltaLink() };
}

// Pages; the client retries by itself after 429.
const all = Array.from({ length: 23 }, (_, number) => `mail ${number}`);
const listed = await everything(
  await client.api(`${inbox}/messages`).select("subject,isRead,from").top(10).orderby("receivedDateTime desc").get(),
);
assert.deepEqual(listed.found.map((mail) => mail.subject), all.toReversed());
const newest = listed.found[0];
assert.equal(newest.from.emailAddress.address, "ann@acme.example");

// MIME.
const raw = await client.api(`${mailbox}/messages/${newest.id}/$value`).responseType(ResponseType.ARRAYBUFFER).get();
assert.match(Buffer.from(raw).toString(), /^From: Ann .*\r\nSubject: mail 22\r\n/s);

// Delta: all pages, then what changes.
const known = await everything(await client.api(`${inbox}/messages/delta`).select("subject").get());
assert.deepEqual(known.found.map((mail) => mail.subject).sort(), all.toSorted());
const changed = await client.api(`${mailbox}/messages/${newest.id}`).patch({ isRead: true });
assert.deepEqual([changed.isRead, changed.id], [true, newest.id]);
const done = await client.api(`${mailbox}/mailFolders`).post({ displayName: "Done" });
const moved = await client.api(`${mailbox}/messages/${newest.id}/move`).post({ destinationId: done.id });
assert.deepEqual([moved.id, moved.parentFolderId], [newest.id, done.id]);
const since = await everything(await client.api(known.delta).get());
assert.deepEqual(since.found.map((mail) => [mail.id, mail["@removed"]?.reason]), [[newest.id, "deleted"]]);
await client.api(`${mailbox}/messages/${newest.id}`).delete();

// Sending, as JSON and as MIME.
const recipient = { emailAddress: { address: "jo@outside.example" } };
const message = { subject: "sent as JSON", body: { contentType: "Text", content: "hello" }, toRecipients: [recipient] };
await client.api(`${mailbox}/sendMail`).post({ message });
const mime = `From: ${GRAPH_MAILBOX}\r\nTo: jo@outside.example\r\nSubject: sent as MIME\r\n\r\nhello\r\n`;
await client.api(`${mailbox}/sendMail`).header("Content-Type", "text/plain").post(Buffer.from(mime).toString("base64"));
const sent = await client.api(`${mailbox}/mailFolders/sentitems/messages`).select("subject").get();
assert.deepEqual(sent.value.map((mail) => mail.subject).sort(), ["sent as JSON", "sent as MIME"]);

// What the real service refuses.
for (const [path, status, code] of [
  [`${mailbox}/messages/AAMkNone=`, 404, "ErrorItemNotFound"],
  [`${mailbox}/messages?$select=colour`, 400, "RequestBroker--ParseUri"],
  ["/users/nobody@acme.example/mailFolders", 404, "ErrorInvalidUser"],
  ["/me/messages", 400, "BadRequest"],
  [`${inbox}/messages/delta?$deltatoken=none`, 410, "syncStateNotFound"],
]) {
  await assert.rejects(client.api(path).get(), (error) => {
    assert.ok(error instanceof GraphError, String(error));
    assert.deepEqual([error.statusCode, error.code], [status, code], path);
    return true;
  });
}
console.log("the double serves @microsoft/microsoft-graph-client");
