// The capture in a repeated group leaves the pattern to JavaScript's own backtracking engine.
export function decide(mail) {
  const text = "x".repeat(5000) + mail.subject.slice(0, 0);
  return /(x+x+)+y/.test(text) ? ticket() : pass();
}
