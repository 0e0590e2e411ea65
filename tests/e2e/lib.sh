# A pool of its own for one end-to-end test in bash: source it, then `start_pool`.
#
# Everything lives in $WORK; whatever the test registers with `on_exit` is undone in reverse order on
# every way out. Processes are ended by their id.
set -euo pipefail

WORK=$(mktemp -d "${TWOFOLD_TEST_DIR:-/var/tmp}/twofold-e2e-XXXXXX")
DAEMON=
CLEANUPS=()

on_exit() { CLEANUPS+=("$*"); }

clean_up() {
  local code=$?
  set +e
  for ((i = ${#CLEANUPS[@]} - 1; i >= 0; i--)); do eval "${CLEANUPS[$i]}" >/dev/null 2>&1; done
  if [ -n "$DAEMON" ]; then kill -KILL "$DAEMON" 2>/dev/null; wait "$DAEMON" 2>/dev/null; fi
  if [ "$code" -ne 0 ] && [ "$code" -ne 77 ] && [ -s "$WORK/daemon.log" ]; then
    echo "--- end of the daemon's log"
    tail -n 40 "$WORK/daemon.log"
  fi
  rm -rf "$WORK"
  exit "$code"
}
trap clean_up EXIT

fail() {
  echo "FAILED: $*"
  exit 1
}

skip() {
  echo "skipped: $*"
  exit 77
}

SETS=(--set "a=$WORK/a" --set "b=$WORK/b" --witness "$WORK/witness")
export TWOFOLD_CONTROL="unix:$WORK/control.sock"

# start_daemon [SERVE ARGUMENTS]: returns when it serves.
start_daemon() {
  : >"$WORK/ready"
  "$TWOFOLD" serve "${SETS[@]}" --nbd "unix:$WORK/nbd.sock" --control "$TWOFOLD_CONTROL" "$@" \
    >"$WORK/ready" 2>>"$WORK/daemon.log" &
  DAEMON=$!
  for _ in $(seq 600); do
    [ -s "$WORK/ready" ] && return 0
    kill -0 "$DAEMON" 2>/dev/null || break
    sleep 0.05
  done
  fail "the daemon did not get ready"
}

stop_daemon() {
  kill -TERM "$DAEMON"
  local code=0
  wait "$DAEMON" || code=$?
  DAEMON=
  [ "$code" -eq 0 ] || fail "the daemon stopped with exit code $code"
}

# start_pool SIZE [INIT ARGUMENTS]
start_pool() {
  local size=$1
  shift
  "$TWOFOLD" init "${SETS[@]}" --size "$size" "$@" >/dev/null
  start_daemon
}

# The NBD URI of an export.
uri() { echo "nbd+unix:///$1?socket=$WORK/nbd.sock"; }

# attach_loop EXPORT: puts it behind a loop device through nbdfuse; sets LOOP_DEVICE. Skips the test where
# the machine has no FUSE or no loop devices.
attach_loop() {
  command -v nbdfuse >/dev/null || skip "nbdfuse is not installed"
  [ -e /dev/fuse ] || skip "no /dev/fuse"
  local mount=$WORK/fuse-${1//[^a-zA-Z0-9]/_}
  mkdir -p "$mount"
  nbdfuse "$mount" "$(uri "$1")" &
  local fuse=$!
  on_exit "fusermount3 -u '$mount' || umount '$mount'; wait $fuse"
  for _ in $(seq 200); do
    [ -e "$mount/nbd" ] && break
    kill -0 "$fuse" 2>/dev/null || fail "nbdfuse ended"
    sleep 0.05
  done
  LOOP_DEVICE=$(losetup --find --show --direct-io=off "$mount/nbd") || skip "no loop device"
  on_exit "losetup -d '$LOOP_DEVICE'"
  FUSE_MOUNT=$mount
  FUSE_PID=$fuse
}

detach_loop() {
  sync -f "$FUSE_MOUNT/nbd"
  losetup -d "$LOOP_DEVICE"
  # The loop device lets go of its file a moment later.
  for _ in $(seq 100); do
    fusermount3 -u "$FUSE_MOUNT" 2>/dev/null && break
    sleep 0.05
  done
  wait "$FUSE_PID" || true
}

# Both sets whole, each alone, and equal. The daemon must be stopped.
compare_sets() {
  local set
  for set in a b; do
    "$TWOFOLD" inspect "$WORK/$set" --verify --json >"$WORK/verify-$set.json" ||
      fail "inspect --verify of set $set: $(cat "$WORK/verify-$set.json")"
  done
  /usr/bin/python3 - "$WORK/verify-a.json" "$WORK/verify-b.json" <<'PYTHON' || fail "the sets differ"
import json, sys
a, b = (json.load(open(path)) for path in sys.argv[1:])
key = lambda report: sorted((c["name"], c["digest"], c["size_bytes"]) for c in report["contents"])
sys.exit(0 if key(a) == key(b) and not a["problems"] and not b["problems"] else 1)
PYTHON
}
