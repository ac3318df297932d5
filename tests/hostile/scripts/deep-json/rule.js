// The JSON reader uses more of the host's stack than the interpreter allows for: a trap, not an error of the script.
export function decide() {
  return ticket({ fields: { deep: JSON.parse("[".repeat(100000)) } });
}
