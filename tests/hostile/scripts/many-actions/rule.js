export function decide() {
  return Array.from({ length: 10000 }, (_, i) => ticket({ title: `ticket ${i}` }));
}
