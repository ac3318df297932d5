const settings = JSON.parse("{");
export function decide(mail) {
  return ticket();
}
