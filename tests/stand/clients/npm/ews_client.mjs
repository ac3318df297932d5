// ews-javascript-api against the EWS double: what a client of others expects of Exchange must hold there.
//
// Environment: EWS_URL, EWS_USER, EWS_PASSWORD, EWS_OTHER (a mailbox that the user may not act for),
// EWS_SHARED (one that the user may impersonate), NODE_EXTRA_CA_CERTS.
import assert from "node:assert/strict";
import {
  BasePropertySet,
  ChangeType,
  ConflictResolutionMode,
  ConnectingIdType,
  DeleteMode,
  EmailMessage,
  ExchangeService,
  ExchangeVersion,
  Folder,
  FolderId,
  FolderSchema,
  FolderView,
  ImpersonatedUserId,
  ItemSchema,
  ItemView,
  MimeContent,
  PropertySet,
  SearchFilter,
  ServiceError,
  SyncFolderItemsScope,
  Uri,
  WebCredentials,
  WellKnownFolderName,
} from "ews-javascript-api";

const { EWS_URL, EWS_USER, EWS_PASSWORD, EWS_OTHER, EWS_SHARED } = process.env;

function service(credentials) {
  const made = new ExchangeService(ExchangeVersion.Exchange2013_SP1);
  made.Url = new Uri(EWS_URL);
  made.Credentials = credentials;
  return made;
}

function mail(subject) {
  return (
    `From: Dana <dana@acme.example>\r\nTo: ${EWS_USER}\r\nSubject: ${subject}\r\n` +
    `Message-ID: <${subject.replaceAll(" ", ".")}@acme.example>\r\n\r\nBody of ${subject}.\r\n`
  );
}

async function create(exchange, subject) {
  const message = new EmailMessage(exchange);
  message.MimeContent = new MimeContent("UTF-8", Buffer.from(mail(subject)).toString("base64"));
  await message.Save(WellKnownFolderName.Inbox);
}

async function refused(code, call) {
  await assert.rejects(call, (error) => {
    assert.equal(error.ErrorCode ?? error.errorCode, code, String(error));
    return true;
  });
}

const ids = () => new PropertySet(BasePropertySet.IdOnly, [ItemSchema.Subject]);
const sync = (exchange, state) =>
  exchange.SyncFolderItems(new FolderId(WellKnownFolderName.Inbox), ids(), null, 512, SyncFolderItemsScope.NormalItems, state);

const own = service(new WebCredentials(EWS_USER, EWS_PASSWORD));
const inbox = await Folder.Bind(own, WellKnownFolderName.Inbox);
assert.equal(inbox.TotalCount, 0);

await create(own, "first mail");
await create(own, "second mail");

const changes = await sync(own, null);
const found = [...changes.GetEnumerator()];
assert.deepEqual(found.map((change) => [change.ChangeType, change.Item.Subject]).sort(), [
  [ChangeType.Create, "first mail"],
  [ChangeType.Create, "second mail"],
]);
const id = (subject) => found.find((change) => change.Item.Subject === subject).ItemId;

// GetItem with MIME.
const first = await EmailMessage.Bind(own, id("first mail"), new PropertySet(BasePropertySet.FirstClassProperties, [ItemSchema.MimeContent]));
assert.equal(Buffer.from(first.MimeContent.Content, "base64").toString(), mail("first mail"));
assert.deepEqual([first.From.Address, first.IsRead], ["dana@acme.example", false]);
assert.equal(first.InternetMessageId, "<first.mail@acme.example>");

// UpdateItem: the read flag, then a conflict with an old change key.
const old = await EmailMessage.Bind(own, id("first mail"));
first.IsRead = true;
await first.Update(ConflictResolutionMode.NeverOverwrite);
let next = await sync(own, changes.SyncState);
assert.deepEqual([...next.GetEnumerator()].map((change) => [change.ChangeType, change.IsRead]), [[ChangeType.ReadFlagChange, true]]);
old.IsRead = false;
await refused(ServiceError.ErrorIrresolvableConflict, () => old.Update(ConflictResolutionMode.NeverOverwrite));

// CreateFolder, FindFolder, MoveItem, FindItem, DeleteItem.
const processed = new Folder(own);
processed.DisplayName = "Processed";
await processed.Save(WellKnownFolderName.Inbox);
const named = new SearchFilter.IsEqualTo(FolderSchema.DisplayName, "Processed");
const folders = await own.FindFolders(WellKnownFolderName.Inbox, named, new FolderView(10));
assert.equal(folders.TotalCount, 1);
const moved = await first.Move(folders.Folders[0].Id);
assert.notEqual(moved.Id.UniqueId, first.Id.UniqueId);
await refused(ServiceError.ErrorItemNotFound, () => EmailMessage.Bind(own, first.Id));
const items = await own.FindItems(folders.Folders[0].Id, new ItemView(10));
assert.deepEqual(items.Items.map((item) => [item.Subject, item.IsRead]), [["first mail", true]]);
await (await EmailMessage.Bind(own, id("second mail"))).Delete(DeleteMode.MoveToDeletedItems);
next = await sync(own, next.SyncState);
assert.deepEqual([...next.GetEnumerator()].map((change) => change.ChangeType), [ChangeType.Delete, ChangeType.Delete]);
await refused(ServiceError.ErrorInvalidSyncStateData, () => sync(own, "bm90IGEgc3RhdGU="));

// Passwords and impersonation. This client takes only tokens with three parts, which those of the stand do not have.
const stranger = service(new WebCredentials(EWS_USER, "wrong"));
await assert.rejects(Folder.Bind(stranger, WellKnownFolderName.Inbox), (error) => /401|Unauthorized/.test(String(error)));
own.ImpersonatedUserId = new ImpersonatedUserId(ConnectingIdType.SmtpAddress, EWS_OTHER);
// A fault; this client keeps its text and not its code.
await assert.rejects(Folder.Bind(own, WellKnownFolderName.Inbox), /permission to impersonate/);
own.ImpersonatedUserId = new ImpersonatedUserId(ConnectingIdType.SmtpAddress, EWS_SHARED);
await create(own, "for another");
const others = await own.FindItems(WellKnownFolderName.Inbox, new ItemView(10));
assert.deepEqual(others.Items.map((item) => item.Subject), ["for another"]);
console.log("the double serves ews-javascript-api");
