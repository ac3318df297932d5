export function decide() {
  let text = "boom";
  for (;;) text = [text, text].join("");
}
