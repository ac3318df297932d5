function decide() {
  return ticket();
}
