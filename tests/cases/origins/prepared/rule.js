// The function makes an action itself, each time an action is made.
Error.prepareStackTrace = () => ticket();

export function decide() {
  return ticket();
}
