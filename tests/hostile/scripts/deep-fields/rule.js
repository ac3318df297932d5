// A JSON reader still takes this, but not with what is stored around it.
export function decide() {
  let deep = 1;
  for (let level = 0; level < 126; level++) deep = [deep];
  return ticket({ fields: { deep } });
}
