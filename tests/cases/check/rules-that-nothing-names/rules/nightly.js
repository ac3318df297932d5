export function decide(mail) {
  return ignore("nightly");
}
