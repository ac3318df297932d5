export function decide() {
  return ticket({ fields: { deep: JSON.parse("[".repeat(100000)) } });
}
