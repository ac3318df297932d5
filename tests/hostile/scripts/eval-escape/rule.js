// There is nothing to escape to: no host objects, no clock, no network.
export function decide() {
  const reachable = ["process", "require", "fetch", "std", "os", "WebAssembly", "setTimeout", "Deno"];
  const found = reachable.filter((name) => (0, eval)(`typeof ${name}`) !== "undefined");
  return ignore(`reachable: ${found.join(" ")}`);
}
