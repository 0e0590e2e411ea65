# filesystem_test NAME MKFS FSCK MOUNT_OPTIONS: what a user does with a file system, on a Twofold export.

fill() {
  mkdir -p "$1/tree"
  cp -r /usr/share/common-licenses /usr/include/linux "$1/tree/"
  head -c 20M /dev/urandom >"$1/tree/random"
  local i
  for i in $(seq 300); do echo "file $i" >"$1/tree/small-$i"; done
}

checksums() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum); }

filesystem_test() {
  local name=$1 mkfs=$2 fsck=$3 options=$4
  command -v "${mkfs%% *}" >/dev/null || skip "${mkfs%% *} is not installed"
  grep -qw "$name" /proc/filesystems || modprobe "$name" 2>/dev/null || skip "no $name in this kernel"

  start_pool 2G
  "$TWOFOLD" volume create vol 600M >/dev/null
  attach_loop vol
  $mkfs "$LOOP_DEVICE"
  local mount=$WORK/mount
  mkdir "$mount"
  mount $options "$LOOP_DEVICE" "$mount"
  on_exit "umount '$mount'"
  fill "$mount"
  checksums "$mount" >"$WORK/before"
  umount "$mount"
  detach_loop
  "$TWOFOLD" snapshot create vol@good >/dev/null

  attach_loop vol
  mount $options "$LOOP_DEVICE" "$mount"
  rm -rf "$mount/tree/linux"
  echo "overwritten" >"$mount/tree/random"
  umount "$mount"
  detach_loop

  "$TWOFOLD" rollback vol@good >/dev/null
  stop_daemon
  compare_sets
  start_daemon

  attach_loop vol
  $fsck "$LOOP_DEVICE" >"$WORK/fsck" 2>&1 || fail "fsck after the rollback: $(cat "$WORK/fsck")"
  mount $options "$LOOP_DEVICE" "$mount"
  checksums "$mount" >"$WORK/after"
  cmp "$WORK/before" "$WORK/after" || fail "files differ after the rollback"
  umount "$mount"
  detach_loop
  stop_daemon
  compare_sets
}
