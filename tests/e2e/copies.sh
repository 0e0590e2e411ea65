# nbdcopy both ways and qemu-img compare, convert and qemu-io: what goes in comes out.
source "$(dirname "$0")/lib.sh"
command -v nbdcopy >/dev/null || skip "nbdcopy is not installed"
command -v qemu-img >/dev/null || skip "qemu-img is not installed"

# 96 MiB with data, holes and an odd end, so that edges are merged.
image=$WORK/image
truncate -s $((96 * 1024 * 1024)) "$image"
head -c 20000000 /dev/urandom | dd of="$image" conv=notrunc bs=1M status=none
head -c 5000001 /dev/urandom | dd of="$image" conv=notrunc bs=1M seek=50 status=none

start_pool 1G
"$TWOFOLD" volume create vol 96M >/dev/null
nbdcopy "$image" "$(uri vol)"
nbdcopy "$(uri vol)" "$WORK/back"
cmp "$image" "$WORK/back" || fail "nbdcopy there and back"
qemu-img compare -f raw -F raw "$image" "$(uri vol)" || fail "qemu-img compare"

# Holes came across as holes.
nbdinfo --map --totals "$(uri vol)"
data=$(nbdinfo --map --totals "$(uri vol)" | awk '$NF == "data" { print $1 }')
[ "$data" -lt 30000000 ] || fail "$data bytes are data, holes were lost"

"$TWOFOLD" snapshot create vol@one >/dev/null
qemu-io -f raw -c 'write -P 0x5a 1234567 7654321' -c 'discard 40M 20M' "$(uri vol)" >/dev/null
qemu-img compare -f raw -F raw "$image" "$(uri vol@one)" || fail "the snapshot changed"
dd if=/dev/zero bs=7654321 count=1 status=none | tr '\0' '\132' |
  dd of="$image" conv=notrunc bs=1M oflag=seek_bytes seek=1234567 status=none
dd if=/dev/zero of="$image" conv=notrunc bs=1M seek=40 count=20 status=none
qemu-img compare -f raw -F raw "$image" "$(uri vol)" || fail "the volume is not what was written"

qemu-img convert -f raw -O qcow2 "$(uri vol)" "$WORK/back.qcow2"
qemu-img compare -f raw -F qcow2 "$image" "$WORK/back.qcow2" || fail "qemu-img convert"
stop_daemon
compare_sets
start_daemon
qemu-img compare -f raw -F raw "$image" "$(uri vol)" || fail "after a restart"
stop_daemon
