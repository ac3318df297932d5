export function decide(mail) {
  console.log(`\u001b[2J\u001b]0;owned\u0007 ${mail.subject}`);
  console.log("first\n\tsecond\u009b31m third\u202e", "word ".repeat(40));
  return ticket({ queue: "\u001b[31mred" });
}
