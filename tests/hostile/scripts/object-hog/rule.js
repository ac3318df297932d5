export function decide() {
  let chain = null;
  for (;;) chain = { chain, words: [1, 2, 3, 4, 5, 6, 7, 8] };
}
