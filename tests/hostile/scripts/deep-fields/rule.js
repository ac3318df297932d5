// A JSON reader still accepts this, but not together with the levels of the stored form.
export function decide() {
  let deep = 1;
  for (let level = 0; level < 126; level++) deep = [deep];
  return ticket({ fields: { deep } });
}
