/// <reference no-default-lib="true" />
/// <reference lib="es2023" />

// What a Postroom script finds around it. With this file and `jsconfig.json` beside your rules, editors complete and check
// them. A rule is one file that says what its function is, so that `mail` and `ctx` are known:
//
//   /** @type {Decide} */
//   export function decide(mail, ctx) { … }
//
// No clock, no randomness, no files, no network: a decision follows from the mail, the context and the rule's own `kv`.
// `Date` stands at `ctx.now` (1970 while the file's top level runs) and `Math.random` is seeded from the mail.
// Files of the rules' own folder can be imported (`import { host } from "./lib/common.js"`); timers, `Intl` and async rules
// are not available.

/** What every rule exports. Nothing returned means pass. */
type Decide = (mail: Mail, ctx: Context) => Action | Action[] | null | undefined | void;

/** The mail. Each part is fetched when it is first read. */
interface Mail {
  readonly subject: string;
  /** The first address of From; null when there is no readable one. */
  readonly from: Address | null;
  readonly to: Address[];
  readonly cc: Address[];
  readonly replyTo: Address[];
  /** The Date header as RFC 3339. */
  readonly date: string | null;
  /** Without angle brackets; a synthetic one where the mail has none. */
  readonly messageId: string;
  /** The decoded text; derived from the HTML when there is no text part. */
  readonly text: string;
  readonly html: string | null;
  /** The new words of a reply: the text without quotes and signature. */
  readonly reply: string;
  readonly attachments: Attachment[];
  readonly classification: "person" | "auto-reply" | "bounce" | "list" | "machine";
  /** What the servers under `[authentication] trusted` said of the sender; all "none" without that setting. */
  readonly authentication: { spf: Verdict; dkim: Verdict; dmarc: Verdict };
  /**
   * What was repaired while the mail was parsed, one sentence each. An attachment with several file names comes first:
   * `the attachment "bill.pdf" is also named "bill.exe"`.
   */
  readonly repairs: string[];

  /** All values of one header, decoded, top to bottom; the name is compared without case. */
  headers(name: string): string[];

  /**
   * The first match of a pattern in a field.
   *
   * A text is a pattern of Rust's `regex` crate (`(?i)` in front ignores case). The host runs it in linear time. A RegExp
   * runs there too where it means the same, which most do; one with look-around, back-references, captures in repeated
   * groups or the flags `v` and `y` runs in the script, under the rule's deadline. `lastIndex` is neither read nor set.
   */
  match(field: Field, pattern: string | RegExp): Match | null;
  /** Every match, up to 1000. The flag `g` is not needed. */
  findAll(field: Field, pattern: string | RegExp): Match[];

  /**
   * The text after `LABEL:` or `LABEL =` on the first line of the text that has it, `""` when there is none on that line. Case,
   * dots before the colon, bullets and quote marks before the label do not count.
   */
  field(label: string): string | null;
  /** The lines of the text. */
  lines(): string[];
  /** The lines of the text after the first one that contains `from`, up to the next that contains `to`; without case. */
  section(from: string, to?: string): string | null;
  /**
   * The rows of one table of the HTML, counted from 0; cells as plain text. Empty when there is none. A cell over several
   * columns or rows counts once; a table within a cell is one of its own.
   */
  table(number?: number): string[][];
}

type Field = "subject" | "from" | "to" | "text" | "html" | "reply" | `header:${string}`;
type Verdict = "pass" | "fail" | "none";

interface Address {
  name: string | null;
  /** `local@domain`, the domain in lower case. */
  email: string;
}

interface Attachment {
  /** Empty when the mail gives none. */
  readonly name: string;
  /** Lower-case `type/subtype`. */
  readonly contentType: string;
  /** Bytes after decoding. */
  readonly size: number;
  /** Shown within the HTML rather than attached. */
  readonly inline: boolean;
  readonly contentId: string | null;
  /** Decoded in its charset; at most 1 MiB of it. */
  text(): string;
  /** At most 1 MiB from `offset` on, counted from 0; empty past the end. */
  bytes(offset?: number, length?: number): Uint8Array;
}

/** Group 0 is the whole match; a group that took no part is undefined, whatever its type says. */
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
  /** Whose mail this is taken to be; `sure` is false when a trusted server says `dmarc=fail`: From may be forged. */
  readonly client: { name: string; sure: boolean } | null;
  /** The open ticket this mail seems to belong to; `authorised` when the sender may write to it. */
  readonly thread: { ticket: string; method: string; authorised: boolean } | null;
  /** The tenant's settings for this rule, as the configuration has them; `{}` without. */
  readonly settings: Record<string, any>;
  readonly kv: KV;
  readonly lookup: Lookup;
  /** When the mail was journalled, RFC 3339 in UTC. */
  readonly now: string;
}

/** A small memory of this rule for this tenant, where `kv` is granted. Writes commit together with the decision. */
interface KV {
  get(key: string): string | null;
  /** Throws when the key, the value or the whole is over its limit. */
  set(key: string, value: string): void;
  delete(key: string): void;
}

/**
 * What is known of this tenant, and of no other, where `lookup` is granted. Contacts and assets come from the files that the
 * configuration names. Texts are taken as they are: no character stands for others. A list has 50 rows at most, unless the
 * limit `lookup_rows` says otherwise. What was asked and answered is recorded with the decision.
 */
interface Lookup {
  /** The contact with this address, compared without case. */
  contact(email: string): Contact | null;
  /** The contacts whose name or address contains this, without case; in the order of the file. */
  contacts(text: string): Contact[];
  /** The asset with this name, serial number or host, compared without case; the first such. */
  asset(name: string): Asset | null;
  /** The assets whose name, serial number or host contains this, without case; in the order of the file. */
  assets(text: string): Asset[];
  /** The open ticket with this number, such as `T-12`. */
  ticket(number: string): OpenTicket | null;
  /**
   * Open tickets, the newest first: by the requester's address, by what the title contains (of the newest 1000 open ones), or by
   * a field of the ticket's own and its value (200 bytes at most).
   */
  tickets(
    search: { requester: string } | { subject: string } | { field: { name: string; value: string | number | boolean } },
  ): OpenTicket[];
  /** The alert with this key, firing or not. */
  alert(key: string): KnownAlert | null;
  /** The firing alerts whose key, host, service or summary contains this, without case; the newest first. All without a text. */
  alerts(text?: string): KnownAlert[];
}

interface Contact {
  /** Empty when the file gives none. */
  name: string;
  email: string;
  phone: string | null;
  vip: boolean;
  /** The other columns of the file that are not empty. */
  fields: Record<string, string>;
}

interface Asset {
  name: string;
  serial: string | null;
  host: string | null;
  /** The other columns of the file that are not empty. */
  fields: Record<string, string>;
}

interface OpenTicket {
  /** Such as `T-12`; what `note({ ticket })` takes. */
  ticket: string;
  title: string;
  requester: string | null;
  queue: string | null;
  priority: string | null;
  tags: string[];
  fields: Record<string, any>;
  /** RFC 3339 in UTC. */
  created: string;
  /** When it was last noted on. */
  updated: string;
}

interface KnownAlert {
  key: string;
  state: "firing" | "resolved";
  severity: string | null;
  host: string | null;
  service: string | null;
  summary: string;
  /** Since when it is in this state, RFC 3339 in UTC. */
  since: string;
  /** When its last mail came. */
  updated: string;
  /** How many mails it had. */
  count: number;
}

declare namespace Postroom {
  /** Marks what the functions below have made; a script never sees it. */
  const made: unique symbol;
}

/** Made by the functions below and by nothing else; one that the tenant is not granted throws. What is left out of a ticket or note is filled in from the mail. */
interface Action {
  readonly [Postroom.made]: true;
  readonly kind: "ticket" | "note" | "alert" | "reply" | "forward" | "expect" | "ignore" | "quarantine" | "pass";
}

/** Numbers are accepted where a text is expected; null counts as left out. An unknown key is an error. */
type Text = string | number | null;
/** Texts, numbers and flags stay what they are; other plain data is kept as JSON; null is left out. */
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
/** A note on the ticket named, else on `ctx.thread`. Public unless said otherwise. */
declare function note(note?: { ticket?: Text; body?: Text; visibility?: "public" | "internal" | null }): Action;
/** Mails with the same key are one alert; `resolved` closes it. */
declare function alert(alert: {
  key: string | number;
  state: "firing" | "resolved";
  severity?: Text;
  host?: Text;
  service?: Text;
  summary?: Text;
  fields?: Fields | null;
}): Action;
/** An answer to the sender. The host refuses it for machines, lists, bounces and its own addresses. */
declare function reply(reply: { text: string | number; html?: Text }): Action;
declare function forward(forward: { to: string | string[] }): Action;
/**
 * A mail with this key should arrive in time: seconds, or a text such as "90m", "24h" or "7d". In this version that is recorded with the
 * decision only: nothing watches for the mail, and no alert comes when it is missing.
 */
declare function expect(expect: { key: string | number; within: number | string }): Action;
/** No ticket, for this reason. */
declare function ignore(reason: string): Action;
/** Kept aside for a person, for this reason. */
declare function quarantine(reason: string): Action;
/** Not mine: the next rule decides. */
declare function pass(): Action;

/** Written to the log that is stored with the decision. Capped; what is over the cap is cut. */
declare const console: {
  debug(...values: unknown[]): void;
  log(...values: unknown[]): void;
  info(...values: unknown[]): void;
  warn(...values: unknown[]): void;
  error(...values: unknown[]): void;
};
