export async function decide() {
  return ticket();
}
