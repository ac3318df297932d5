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
  // These need nothing but the mail.
  const bare = ["ticket", "note", "close"];
  for (const kind of ["ticket", "note", "alert", "reply", "forward", "expect", "update", "close"]) {
    const make = {
      [kind](content) {
        if (content === undefined && bare.includes(kind)) content = {};
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
  const decline = (text) => new Action("decline", { text: mustBeText("decline", "the text", text) }, decline);
  global("decline", decline);
  // A new object for each call, since each has its own position.
  const pass = () => new Action("pass", {}, pass);
  global("pass", pass);

  // Patterns

  // The flags that remain, since every call starts at the beginning of the field.
  const ownFlags = (pattern) => pattern.flags.replace(/[gy]/g, "");
  const matchByScript = (at, field, pattern) => {
    const sticky = pattern.sticky ? "y" : "";
    const found = new RegExp(pattern.source, ownFlags(pattern) + sticky).exec(host.field(at, field));
    return found && tidy(found);
  };
  const findAllByScript = (at, field, pattern) => {
    const sticky = pattern.sticky ? "y" : "";
    const all = [];
    for (const found of host.field(at, field).matchAll(new RegExp(pattern.source, ownFlags(pattern) + "g" + sticky))) {
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
  const find = (name, byHost, byScript, all) => (at, field, pattern) => {
    mustBeText(name, "the field", field);
    if (typeof pattern === "string") return byHost(at, field, pattern);
    if (!(pattern instanceof RegExp))
      throw new TypeError(`${name}: the pattern must be text or a RegExp, not ${kindOf(pattern)}`);
    const found = host.regExp(at, field, pattern.source, pattern.flags, all);
    return found === undefined ? byScript(at, field, pattern) : found;
  };
  const match = find("match", host.match, matchByScript, false);
  const findAll = find("findAll", host.findAll, findAllByScript, true);

  // The mail

  // Reading a property that does not exist is a typing error, which `undefined` would hide.
  const strict = (what, names) =>
    new Proxy(Object.prototype, {
      get(target, name, self) {
        // Promises and JSON ask every object for these.
        if (name in target || typeof name === "symbol" || name === "then" || name === "toJSON") return Reflect.get(target, name, self);
        const near = nearest(name, names());
        throw new TypeError(`${what}.${name} does not exist${near ? `; did you mean ${what}.${near}?` : ""}`);
      },
    });
  const nearest = (name, names) => {
    const wanted = name.toLowerCase();
    const distances = names.map((known) => [distance(wanted, known.toLowerCase()), known]);
    const [[least, known]] = distances.sort(([a], [b]) => a - b);
    return least <= Math.max(1, name.length / 3) ? known : null;
  };
  // Levenshtein, with a swap of neighbours as one step.
  const distance = (a, b) => {
    a = a.slice(0, 40);
    let before = [];
    let row = Array.from({ length: b.length + 1 }, (_, index) => index);
    for (let i = 1; i <= a.length; i++) {
      const next = [i];
      for (let j = 1; j <= b.length; j++) {
        const same = a[i - 1] === b[j - 1];
        next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (same ? 0 : 1));
        if (!same && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) next[j] = Math.min(next[j], before[j - 2] + 1);
      }
      [before, row] = [row, next];
    }
    return row[b.length];
  };

  class Attachment {
    #at;
    #index;
    constructor(at, index, about) {
      this.#at = at;
      this.#index = index;
      assign(this, about);
    }
    text() {
      return host.attachmentText(this.#at, this.#index);
    }
    bytes(offset = 0, length = 1 << 20) {
      return host.attachmentBytes(this.#at, this.#index, offset, length);
    }
    mail() {
      return opened(host.attachedMail(this.#at, this.#index));
    }
  }
  const opened = (at) => (at === null ? null : new Mail(at));

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
    replyHtml: host.replyHtml,
    attachments: (at) => host.attachments(at).map((about, index) => new Attachment(at, index, about)),
    links: host.links,
    calendar: host.calendar,
    delivery: host.delivery,
    forwarded: (at) => opened(host.forwarded(at)),
    classification: host.classification,
    classificationReason: host.classificationReason,
    challenge: host.challenge,
    authentication: host.authentication,
    repairs: host.repairs,
  };
  class Mail {
    #at;
    constructor(at) {
      this.#at = at;
    }
    headers(name) {
      return host.headers(this.#at, mustBeText("headers", "the name", name));
    }
    match(field, pattern) {
      return match(this.#at, field, pattern);
    }
    findAll(field, pattern) {
      return findAll(this.#at, field, pattern);
    }
    field(label) {
      return host.labelled(this.#at, mustBeText("field", "the label", label));
    }
    pairs() {
      return host.pairs(this.#at);
    }
    lines() {
      return this.text.split(/\r?\n/);
    }
    section(from, to) {
      const end = to === undefined ? null : mustBeText("section", "the end", to);
      return host.section(this.#at, mustBeText("section", "the start", from), end);
    }
    table(number = 0) {
      return host.table(this.#at, number);
    }
    toJSON() {
      const all = {};
      for (const name in parts) all[name] = this[name];
      return all;
    }
    static {
      // A part is fetched when it is first read.
      for (const name in parts) {
        const read = parts[name];
        defineProperty(this.prototype, name, {
          get() {
            return kept(this, name, read(this.#at));
          },
        });
      }
    }
  }
  const namesOf = (type, own) => () => own.concat(Object.getOwnPropertyNames(type.prototype)).filter((name) => name !== "constructor");
  Object.setPrototypeOf(Mail.prototype, strict("mail", namesOf(Mail, [])));

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
    constructor(tenant, mailbox, now, client, staff, thread) {
      this.tenant = tenant;
      this.mailbox = mailbox;
      this.now = now;
      this.client = client;
      this.staff = staff;
      this.thread = thread;
    }
    get settings() {
      return kept(this, "settings", JSON.parse(host.settings()));
    }
    local(time, zone) {
      return host.local(mustBeText("ctx.local", "the time", time), mustBeText("ctx.local", "the zone", zone));
    }
    open(zone, hours, time = this.now) {
      const [where, when] = [mustBeText("ctx.open", "the zone", zone), mustBeText("ctx.open", "the hours", hours)];
      return host.open(mustBeText("ctx.open", "the time", time), where, when);
    }
    toJSON() {
      return { ...this, settings: this.settings };
    }
  }
  // All contexts share these, so that a mail whose rule does not use them touches neither.
  defineProperty(Context.prototype, "kv", { value: kv });
  defineProperty(Context.prototype, "lookup", { value: lookup });
  Object.setPrototypeOf(Context.prototype, strict("ctx", namesOf(Context, ["tenant", "mailbox", "now", "client", "staff", "thread"])));

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

  // The interpreter has no locales and no time zones, and would ignore a request for either.
  const refuse = (type, names, advice) => {
    for (const name of names) {
      const plain = type.prototype[name];
      const replaced = {
        [name](...args) {
          if (args.some((arg) => arg !== undefined))
            throw new TypeError(`${name}: locales and time zones are not available; ${advice}`);
          return plain.call(this);
        },
      };
      defineProperty(type.prototype, name, { value: replaced[name], writable: true, configurable: true });
    }
  };
  refuse(Date, ["toLocaleString", "toLocaleDateString", "toLocaleTimeString"], 'use ctx.local(time, "Europe/Berlin")');
  refuse(Number, ["toLocaleString"], "use toFixed and replace");

  const run = (decide, tenant, mailbox, now, client, staff, thread) =>
    decide(new Mail(0), new Context(tenant, mailbox, now, client, staff, thread));

  // Made once and kept: the interpreter then has the layouts of these objects in the image, where a mail only reads them.
  const [client, thread, found] = host.samples();
  run.rehearsed = [
    run((mail, ctx) => [mail, ctx], "", "", "", client, true, thread),
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
