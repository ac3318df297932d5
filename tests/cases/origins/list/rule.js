const told = (text) => reply({ text });

export function decide() {
  const second = alert({ key: "b", state: "firing" });
  return [
    told("We are on it."),
    expect({ key: "nightly", within: "24h" }),
    alert({ key: "a", state: "firing" }),
    second,
  ];
}
