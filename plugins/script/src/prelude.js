// The API of scripts: `mail`, `ctx` and the constructors, based on the few functions of `host`. Runs once per script; its
// results are part of the memory image that every mail starts from.
(function (host) {
  "use strict";
  const { defineProperty, assign } = Object;

  const kindOf = (value) => {
    if (value === null) return "null";
    if (Array.isArray(value)) return "a list";
    const type = typeof value;
    return type === "object" ? "an object" : type === "undefined" ? "undefined" : `a ${type}`;
  };
  const mustBeText = (where, what, value) => {
    if (typeof value !== "string") throw new TypeError(`${where}: ${what} must be text, not ${kindOf(value)}`);
    return value;
  };
  const global = (name, value) => defineProperty(globalThis, name, { value, writable: true, configurable: true });
  const kept = (self, name, value) => (defineProperty(self, name, { value, enumerable: true }), value);

  // Actions

  const { captureStackTrace } = Error;
  class Action {
    // Keeps the stack above `maker`, hidden from the script, as the origin of this action.
    constructor(kind, content, maker) {
      assign(this, content);
      this.kind = kind;
      host.check(kind, this);
      captureStackTrace(this, maker);
    }
  }
  for (const kind of ["ticket", "note", "alert", "reply", "forward", "expect"]) {
    const make = {
      [kind](content) {
        if (content === undefined && (kind === "ticket" || kind === "note")) content = {};
        if (content === null || typeof content !== "object" || Array.isArray(content))
          throw new TypeError(`${kind}: takes an object, not ${kindOf(content)}`);
        return new Action(kind, content, make[kind]);
      },
    };
    global(kind, make[kind]);
  }
  for (const kind of ["ignore", "quarantine"]) {
    const make = { [kind]: (reason) => new Action(kind, { reason: mustBeText(kind, "the reason", reason) }, make[kind]) };
    global(kind, make[kind]);
  }
  // A new object for each call, since each has its own position.
  const pass = () => new Action("pass", {}, pass);
  global("pass", pass);

  // Patterns

  // The flags that remain, since every call starts at the beginning of the field.
  const ownFlags = (pattern) => pattern.flags.replace(/[gy]/g, "");
  const matchByScript = (field, pattern) => {
    const sticky = pattern.sticky ? "y" : "";
    const found = new RegExp(pattern.source, ownFlags(pattern) + sticky).exec(host.field(field));
    return found && tidy(found);
  };
  const findAllByScript = (field, pattern) => {
    const sticky = pattern.sticky ? "y" : "";
    const all = [];
    for (const found of host.field(field).matchAll(new RegExp(pattern.source, ownFlags(pattern) + "g" + sticky))) {
      all.push(tidy(found));
      if (all.length === host.maxMatches) break;
    }
    return all;
  };
  const tidy = (found) => {
    delete found.input;
    found.groups ??= {};
    return found;
  };
  const find = (name, byHost, byScript, all) => (field, pattern) => {
    mustBeText(name, "the field", field);
    if (typeof pattern === "string") return byHost(field, pattern);
    if (!(pattern instanceof RegExp))
      throw new TypeError(`${name}: the pattern must be text or a RegExp, not ${kindOf(pattern)}`);
    const found = host.regExp(field, pattern.source, pattern.flags, all);
    return found === undefined ? byScript(field, pattern) : found;
  };
  const match = find("match", host.match, matchByScript, false);
  const findAll = find("findAll", host.findAll, findAllByScript, true);

  // The mail

  class Attachment {
    #index;
    constructor(index, about) {
      this.#index = index;
      assign(this, about);
    }
    text() {
      return host.attachmentText(this.#index);
    }
    bytes(offset = 0, length = 1 << 20) {
      return host.attachmentBytes(this.#index, offset, length);
    }
  }

  const parts = {
    subject: host.subject,
    from: host.from,
    to: host.to,
    cc: host.cc,
    replyTo: host.replyTo,
    date: host.date,
    messageId: host.messageId,
    text: host.text,
    html: host.html,
    reply: host.reply,
    attachments: () => host.attachments().map((about, index) => new Attachment(index, about)),
    classification: host.classification,
    authentication: host.authentication,
    repairs: host.repairs,
  };
  class Mail {
    headers(name) {
      return host.headers(mustBeText("headers", "the name", name));
    }
    match(field, pattern) {
      return match(field, pattern);
    }
    findAll(field, pattern) {
      return findAll(field, pattern);
    }
    field(label) {
      return host.labelled(mustBeText("field", "the label", label));
    }
    lines() {
      return this.text.split(/\r?\n/);
    }
    section(from, to) {
      return host.section(mustBeText("section", "the start", from), to === undefined ? null : mustBeText("section", "the end", to));
    }
    table(number = 0) {
      return host.table(number);
    }
    toJSON() {
      const all = {};
      for (const name in parts) all[name] = this[name];
      return all;
    }
  }
  // A part is fetched when it is first read.
  for (const name in parts) {
    const read = parts[name];
    defineProperty(Mail.prototype, name, {
      get() {
        return kept(this, name, read());
      },
    });
  }

  // The context

  const kv = Object.freeze({
    get: (key) => host.kvGet(mustBeText("kv.get", "the key", key)),
    set: (key, value) => host.kvSet(mustBeText("kv.set", "the key", key), mustBeText("kv.set", "the value", value)),
    delete: (key) => host.kvDelete(mustBeText("kv.delete", "the key", key)),
  });
  const wanted = (name, what, value, ask) => ask(mustBeText(`lookup.${name}`, what, value));
  const tickets = (search) => {
    const given = search !== null && typeof search === "object" ? Object.keys(search) : [];
    const { requester, subject, field } = search ?? {};
    if (given.length !== 1 || (requester ?? subject ?? field) === undefined)
      throw new TypeError("lookup.tickets: takes one of { requester: … }, { subject: … } and { field: { name, value } }");
    if (requester !== undefined) return wanted("tickets", "the requester", requester, host.ticketsOf);
    if (subject !== undefined) return wanted("tickets", "the subject", subject, host.ticketsAbout);
    if (field === null || typeof field !== "object")
      throw new TypeError(`lookup.tickets: the field must be { name, value }, not ${kindOf(field)}`);
    const { name, value } = field;
    const isPlain = typeof value === "number" || typeof value === "boolean";
    return host.ticketsWith(
      mustBeText("lookup.tickets", "the field's name", name),
      mustBeText("lookup.tickets", "the field's value", isPlain ? JSON.stringify(value) : value),
    );
  };
  const lookup = Object.freeze({
    contact: (email) => wanted("contact", "the address", email, host.contact),
    contacts: (text) => wanted("contacts", "the text", text, host.contacts),
    asset: (name) => wanted("asset", "the name", name, host.asset),
    assets: (text) => wanted("assets", "the text", text, host.assets),
    ticket: (number) => wanted("ticket", "the number", number, host.openTicket),
    tickets,
    alert: (key) => wanted("alert", "the key", key, host.knownAlert),
    alerts: (text = "") => wanted("alerts", "the text", text, host.firingAlerts),
  });
  class Context {
    constructor(tenant, mailbox, now, client, thread) {
      this.tenant = tenant;
      this.mailbox = mailbox;
      this.now = now;
      this.client = client;
      this.thread = thread;
    }
    get settings() {
      return kept(this, "settings", JSON.parse(host.settings()));
    }
    toJSON() {
      return { ...this, settings: this.settings };
    }
  }
  // All contexts share these, so that a mail whose rule does not use them touches neither.
  defineProperty(Context.prototype, "kv", { value: kv });
  defineProperty(Context.prototype, "lookup", { value: lookup });

  // Globals

  // A stack contains only the script's own files, not the code below them.
  const stack = Object.getOwnPropertyDescriptor(Error.prototype, "stack");
  const isOurs = (frame) => frame.includes("(postroom:prelude:");
  defineProperty(Error.prototype, "stack", {
    get() {
      const all = stack.get.call(this);
      if (typeof all !== "string" || !isOurs(all)) return all;
      const frames = all.split("\n");
      const isBeneath = (frame, index) => isOurs(frame) || (frame.endsWith("(native)") && isOurs(frames[index + 1] ?? ""));
      return frames.filter((frame, index) => !isBeneath(frame, index)).join("\n");
    },
    set: stack.set,
    configurable: true,
  });

  const shown = (value) => {
    if (typeof value === "string") return value;
    if (typeof value === "function") return `[function ${value.name}]`;
    if (typeof value !== "object" || value === null) return String(value);
    try {
      if (value instanceof Error) return `${value.name}: ${value.message}\n${value.stack}`.trimEnd();
      return JSON.stringify(value) ?? String(value);
    } catch {
      // A cycle, or an object that cannot be inspected: the log must not make a rule fail.
      return "[object]";
    }
  };
  const logAt = (level) => (...values) => host.log(level, values.map(shown).join(" "));
  global("console", { debug: logAt("debug"), log: logAt("info"), info: logAt("info"), warn: logAt("warn"), error: logAt("error") });
  defineProperty(Math, "random", { value: () => host.random(), writable: true, configurable: true });

  const run = (decide, tenant, mailbox, now, client, thread) =>
    decide(new Mail(), new Context(tenant, mailbox, now, client, thread));

  // Made once and kept: the interpreter then has the layouts of these objects in the image, where a mail only reads them.
  const [client, thread, found] = host.samples();
  run.rehearsed = [
    run((mail, ctx) => [mail, ctx], "", "", "", client, thread),
    found,
    ticket({ title: "", body: "", queue: "", priority: "", requester: "", fields: { a: "" }, tags: [""] }),
    ticket({ title: "" }),
    note({ body: "" }),
    alert({ key: "a", state: "firing", severity: "", host: "", service: "", summary: "" }),
    reply({ text: "a" }),
    ignore("a"),
    pass(),
  ];

  return { Action, run };
})
