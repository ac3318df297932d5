// The least a script can do: what it costs is what the sandbox costs.

export function decide() {
  return ticket({ queue: "Service desk" });
}
