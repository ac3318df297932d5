/// <reference no-default-lib="true" />
/// <reference lib="es2023" />

// The API of Postroom scripts. With this file and `jsconfig.json` beside your rules, editors complete and check them. A rule
// declares the type of its function, so that editors know `mail` and `ctx`:
//
//   /** @type {Decide} */
//   export function decide(mail, ctx) { … }
//
// A script has no clock, randomness, files or network: a decision depends only on the mail, the context and the rule's own `kv`.
// `Date` is fixed at `ctx.now` (1970 while the file's top level runs), and `Math.random` is seeded from the mail.
// Files of the rules' own folder can be imported (`import { host } from "./lib/common.js"`). Timers, `Intl` and async rules
// are not available.

/** The function that every rule exports. Returning nothing means pass. */
type Decide = (mail: Mail, ctx: Context) => Action | Action[] | null | undefined | void;

/** The mail. The script fetches each part when it first reads it. */
interface Mail {
  readonly subject: string;
  /** The first address of From; null if no address can be parsed. */
  readonly from: Address | null;
  readonly to: Address[];
  readonly cc: Address[];
  readonly replyTo: Address[];
  /** The Date header as RFC 3339, if it can be parsed. */
  readonly date: string | null;
  /** The Message-ID without angle brackets; a synthetic one if the mail has none. */
  readonly messageId: string;
  /** The decoded text; derived from the HTML if there is no text part. */
  readonly text: string;
  readonly html: string | null;
  /** The new text of a reply, without quotes and signature. */
  readonly reply: string;
  /** The HTML of the new text of a reply, without scripts and styles; null if the mail has no HTML. */
  readonly replyHtml: string | null;
  readonly attachments: Attachment[];
  /** The links of the HTML, or of the text if there is no HTML, in order, each once. */
  readonly links: { text: string; url: string }[];
  /** The mail's invitation, or the answer to one. */
  readonly calendar: Calendar | null;
  /** What a bounce reports; null for any other mail. */
  readonly delivery: DeliveryReport | null;
  /** The mail that a person forwarded with this one, inline or attached. */
  readonly forwarded: Mail | null;
  readonly classification: "person" | "auto-reply" | "bounce" | "list" | "machine" | "calendar";
  /** The mark that decided the classification, such as `Auto-Submitted: auto-replied`. */
  readonly classificationReason: string;
  /** Whether this auto-reply asks its recipient to prove to be a person. */
  readonly challenge: boolean;
  /** The verdicts of the servers under `[authentication] trusted` on the sender; all "none" without that setting. */
  readonly authentication: { spf: Verdict; dkim: Verdict; dmarc: Verdict; arc: Verdict };
  /**
   * The repairs made while the mail was parsed, one sentence each. An attachment with several file names comes first:
   * `the attachment "bill.pdf" is also named "bill.exe"`.
   */
  readonly repairs: string[];

  /** Returns all values of one header, decoded, top to bottom. The name is compared case-insensitively. */
  headers(name: string): string[];

  /**
   * Returns the first match of a pattern in a field.
   *
   * A string is a pattern of Rust's `regex` crate (`(?i)` in front ignores case), which the host runs in linear time. The host
   * also runs a RegExp if it means the same there, as most do. A RegExp with look-around, back-references, captures in repeated
   * groups or the flags `v` and `y` runs in the script, under the rule's deadline. `lastIndex` is neither read nor set.
   */
  match(field: Field, pattern: string | RegExp): Match | null;
  /** Returns all matches, up to 1000. The flag `g` is not needed. */
  findAll(field: Field, pattern: string | RegExp): Match[];

  /**
   * Returns the value of a label, or `""` if the label has none: of `LABEL: value`, `LABEL = value`, a value below its label, or a row
   * of a two-column table of the HTML. The first such label counts. Case, dots before the colon, Markdown, and bullets and quote marks
   * before the label are ignored.
   */
  field(label: string): string | null;
  /** Returns all labels and values that `field` finds, in order. */
  pairs(): [label: string, value: string][];
  /** Returns the lines of the text. */
  lines(): string[];
  /**
   * Returns the lines of the text after the first one that contains `from`, up to the next one that contains `to`, compared
   * case-insensitively.
   */
  section(from: string, to?: string): string | null;
  /**
   * Returns the rows of one table of the HTML, with cells as plain text. Tables are counted from 0, without hidden ones. The result
   * is empty if there is no such table. A cell over several columns or rows counts once; a table inside a cell counts as a separate table.
   */
  table(number?: number): string[][];
}

type Field = "subject" | "from" | "to" | "cc" | "text" | "html" | "reply" | `header:${string}`;
type Verdict = "pass" | "fail" | "none";

interface Address {
  name: string | null;
  /** `local@domain`, the domain in lower case. */
  email: string;
}

interface Attachment {
  /** The decoded file name; empty if the mail has none. */
  readonly name: string;
  /** Lower-case `type/subtype`. */
  readonly contentType: string;
  /** Size in bytes after decoding. */
  readonly size: number;
  /** Whether it is shown inside the HTML rather than attached. */
  readonly inline: boolean;
  readonly contentId: string | null;
  /** Whether it is a mail, which `mail()` opens. */
  readonly isMail: boolean;
  /** Returns its text, decoded from its charset; at most the first 1 MiB. */
  text(): string;
  /** Returns at most 1 MiB from `offset`, counted from 0; empty past the end. */
  bytes(offset?: number, length?: number): Uint8Array;
  /** Returns the mail in it, or null. At most 16 mails are opened in one decision. */
  mail(): Mail | null;
}

/** What a bounce reports (RFC 3464, or the words of a mail server). */
interface DeliveryReport {
  recipients: {
    email: string;
    /** Such as `5.1.1` (RFC 3463). */
    status: string | null;
    /** False if the server still tries, or a later attempt may succeed. */
    permanent: boolean;
    /** The answer of the refusing server. */
    diagnostic: string | null;
  }[];
  /** The Message-ID of the mail that was not delivered. */
  messageId: string | null;
}

/** The first event of a calendar part. */
interface Calendar {
  /** `REQUEST`, `REPLY`, `CANCEL` or another method. */
  method: string;
  uid: string;
  summary: string;
  /** RFC 3339 if the time zone is known, else as written: `2026-11-30` or `2026-11-30T09:00:00`. */
  start: string | null;
  end: string | null;
  location: string | null;
  organizer: string | null;
  attendees: { email: string; status: string }[];
}

/** Group 0 is the whole match; a group that did not participate is undefined, despite its type. */
interface Match extends Array<string> {
  0: string;
  /** The named groups. */
  groups: Record<string, string>;
  /** Where the match starts, in UTF-16 code units. */
  index: number;
}

interface Context {
  readonly tenant: string;
  readonly mailbox: string;
  /**
   * The client that the mail is attributed to. `sure` is false if more than one client fits, or if a trusted server reports
   * `dmarc=fail`: From may be forged. `evidence` is what it was attributed by, and `candidates` are the clients that fit if more
   * than one does.
   */
  readonly client: { name: string; sure: boolean; evidence: string; candidates: string[] } | null;
  /** Whether the sender is one of the MSP's own people, as configured under `[staff]`. */
  readonly staff: boolean;
  /** The ticket that this mail appears to belong to; `authorised` is true if the sender may write to it. */
  readonly thread: { ticket: string; method: string; authorised: boolean } | null;
  /** The tenant's settings for this rule, as in the configuration; `{}` if there are none. */
  readonly settings: Record<string, any>;
  readonly kv: KV;
  readonly lookup: Lookup;
  /** The time at which the mail was journalled, RFC 3339 in UTC. */
  readonly now: string;
  /** Returns a time (RFC 3339) in a zone such as `Europe/Berlin`; throws if either is unknown. */
  local(time: string, zone: string): LocalTime;
  /**
   * Returns whether a time, by default `now`, lies in business hours such as `Mon-Fri 08:00-12:00 13:00-17:30, Sat 09:00-12:00` in a
   * zone. Days are `Mon`, `Mon-Fri`, `Mon/Wed` or `daily`; a range that ends before it begins ends on the next day.
   */
  open(zone: string, hours: string, time?: string): boolean;
}

interface LocalTime {
  year: number;
  /** From 1 to 12. */
  month: number;
  day: number;
  hour: number;
  minute: number;
  second: number;
  /** From 1, Monday, to 7, Sunday. */
  weekday: number;
  /** Seconds east of UTC. */
  offsetSecs: number;
  /** RFC 3339 with that offset. */
  iso: string;
}

/** A small key-value store of this rule for this tenant, if `kv` is granted. Writes commit together with the decision. */
interface KV {
  get(key: string): string | null;
  /** Throws if the key, the value or the whole store is over its limit. */
  set(key: string, value: string): void;
  delete(key: string): void;
}

/**
 * Queries about this tenant, and no other, if `lookup` is granted. Contacts and assets come from the files that the
 * configuration names. Texts are compared literally, without wildcards. A list has at most 50 rows, unless the limit
 * `lookup_rows` is changed. Queries and results are recorded with the decision.
 */
interface Lookup {
  /** Returns the contact with this address, compared case-insensitively. */
  contact(email: string): Contact | null;
  /** Returns the contacts whose name or address contains this text, compared case-insensitively, in the order of the file. */
  contacts(text: string): Contact[];
  /** Returns the first asset with this name, serial number or host, compared case-insensitively. */
  asset(name: string): Asset | null;
  /**
   * Returns the assets whose name, serial number or host contains this text, compared case-insensitively, in the order of the
   * file.
   */
  assets(text: string): Asset[];
  /** Returns the open ticket with this number, such as `T-12`. */
  ticket(number: string): OpenTicket | null;
  /**
   * Returns open tickets, newest first: by the requester's address, by a part of the title (among the newest 1000 open tickets), or
   * by a custom field and its value (at most 200 bytes).
   */
  tickets(
    search: { requester: string } | { subject: string } | { field: { name: string; value: string | number | boolean } },
  ): OpenTicket[];
  /** Returns the alert with this key, firing or not. */
  alert(key: string): KnownAlert | null;
  /**
   * Returns the firing alerts whose key, host, service or summary contains this text, compared case-insensitively, newest first.
   * Without a text, returns all of them.
   */
  alerts(text?: string): KnownAlert[];
}

interface Contact {
  /** Empty if the file has none. */
  name: string;
  email: string;
  phone: string | null;
  vip: boolean;
  /** The other, non-empty columns of the file. */
  fields: Record<string, string>;
}

interface Asset {
  name: string;
  serial: string | null;
  host: string | null;
  /** The other, non-empty columns of the file. */
  fields: Record<string, string>;
}

interface OpenTicket {
  /** The ticket's number, such as `T-12`; use it in `note({ ticket })`. */
  ticket: string;
  title: string;
  requester: string | null;
  queue: string | null;
  priority: string | null;
  tags: string[];
  fields: Record<string, any>;
  /** RFC 3339 in UTC. */
  created: string;
  /** The time of its last note. */
  updated: string;
}

interface KnownAlert {
  key: string;
  state: "firing" | "resolved";
  severity: string | null;
  host: string | null;
  service: string | null;
  summary: string;
  /** The time at which it entered this state, RFC 3339 in UTC. */
  since: string;
  /** The time of its last mail. */
  updated: string;
  /** The number of its mails. */
  count: number;
}

declare namespace Postroom {
  /** Marks values made by the functions below; a script never sees it. */
  const made: unique symbol;
}

/**
 * An action. Only the functions below make one, and they throw if the tenant is not granted that action. Omitted fields of a ticket
 * or note are filled in from the mail.
 */
interface Action {
  readonly [Postroom.made]: true;
  readonly kind: "ticket" | "note" | "alert" | "reply" | "forward" | "expect" | "update" | "close" | "ignore" | "decline" | "quarantine" | "pass";
}

/** A number is accepted in place of a string; null counts as omitted. An unknown key is an error. */
type Text = string | number | null;
/** Strings, numbers and booleans are kept as they are, and other plain data as JSON; null is omitted. */
type Fields = Record<string, unknown>;

declare function ticket(ticket?: {
  title?: Text;
  body?: Text;
  queue?: Text;
  priority?: Text;
  requester?: Text;
  fields?: Fields | null;
  tags?: (string | number)[] | null;
}): Action;
/** A note on the named ticket, or on the ticket of `ctx.thread` if none is named. Public by default. */
declare function note(note?: { ticket?: Text; body?: Text; visibility?: "public" | "internal" | null }): Action;
/** An alert. Mails with the same key belong to one alert; `resolved` closes it. */
declare function alert(alert: {
  key: string | number;
  state: "firing" | "resolved";
  severity?: Text;
  host?: Text;
  service?: Text;
  summary?: Text;
  fields?: Fields | null;
}): Action;
/** A reply to the sender. The host refuses to send it to machines, lists, bounces and its own addresses. */
declare function reply(reply: { text: string | number; html?: Text }): Action;
declare function forward(forward: { to: string | string[] }): Action;
/**
 * A mail with this key should arrive in time: seconds, or a string such as "90m", "24h" or "7d". If none does, an alert with the key
 * fires; it resolves when one comes.
 */
declare function expect(expect: { key: string | number; within: number | string }): Action;
/** Changes a ticket, by default that of `ctx.thread`. What is omitted stays; tags replace all tags, fields those of the same names. */
declare function update(update: {
  ticket?: Text;
  priority?: Text;
  queue?: Text;
  status?: "open" | "pending" | "closed" | null;
  tags?: (string | number)[] | null;
  fields?: Fields | null;
}): Action;
/** Closes a ticket, by default that of `ctx.thread`. */
declare function close(close?: { ticket?: Text; reason?: Text }): Action;
/** Refuses a new request politely: the sender gets this text, once in a conversation, and no ticket is made. */
declare function decline(text: string): Action;
/** Makes no ticket, for this reason. */
declare function ignore(reason: string): Action;
/** Keeps the mail aside for a person, for this reason. */
declare function quarantine(reason: string): Action;
/** The rule does not decide this mail; the next rule does. */
declare function pass(): Action;

/** Writes to the log that is stored with the decision. Anything over its limit is cut. */
declare const console: {
  debug(...values: unknown[]): void;
  log(...values: unknown[]): void;
  info(...values: unknown[]): void;
  warn(...values: unknown[]): void;
  error(...values: unknown[]): void;
};
