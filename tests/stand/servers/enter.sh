# Starts a server from its unpacked packages: lays them over the system, for this process alone, so that every path is
# where Debian puts it. Called in a mount namespace of its own, as root: enter.sh PACKAGES FOLDER.
# FOLDER has settings.sh (ports, password) and start.sh, which ends with exec.
set -e
packages=$1
DIR=$2
mkdir -p "$DIR/over"
# What the server writes to the system's folders goes here, and is gone with the process.
mount -t tmpfs tmpfs "$DIR/over"
for top in usr etc var run; do
  mkdir -p "$DIR/over/$top" "$DIR/over/work-$top"
  mount -t overlay overlay \
    -o "lowerdir=$packages/$top:/$top,upperdir=$DIR/over/$top,workdir=$DIR/over/work-$top" "/$top"
done
# account NAME ID: the user and the group that the package creates when it is installed.
account() {
  printf '%s:x:%s:%s::/nonexistent:/bin/sh\n' "$1" "$2" "$2" >>/etc/passwd
  printf '%s:x:%s:\n' "$1" "$2" >>/etc/group
}
. "$DIR/settings.sh"
. "$DIR/start.sh"
