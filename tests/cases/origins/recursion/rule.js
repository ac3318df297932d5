function walk(depth) {
  if (depth === 0) return ticket();
  return walk(depth - 1);
}

export function decide() {
  return walk(100);
}
