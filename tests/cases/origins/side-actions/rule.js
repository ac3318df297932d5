export function decide() {
  return [
    expect({ key: "nightly", within: "24h" }),
    expect({ key: "weekly", within: "8d" }),
  ];
}
