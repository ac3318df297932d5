export function decide() {
  const late = ticket();
  late.title = {};
  return late;
}
