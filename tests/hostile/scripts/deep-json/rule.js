// The JSON reader leans on the host's stack more than the interpreter allows for: a trap, not an error of the script.
export function decide() {
  return ticket({ fields: { deep: JSON.parse("[".repeat(100000)) } });
}
