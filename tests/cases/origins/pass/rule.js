const notMine = (mail) => {
  console.log(`not mine: ${mail.subject}`);
  return pass();
};

export function decide(mail) {
  pass();
  return notMine(mail);
}
