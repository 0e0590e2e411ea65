# fio's nbd engine with verification: random writes of mixed sizes, read back and checked, for both ways of
# acknowledging.
source "$(dirname "$0")/lib.sh"
command -v fio >/dev/null || skip "fio is not installed"
fio --enghelp 2>/dev/null | grep -qw nbd || skip "this fio has no nbd engine"

start_pool 1G
for ack in durable written; do
  "$TWOFOLD" volume create "$ack" 128M --ack "$ack" >/dev/null
  (cd "$WORK" && fio --name=verify --ioengine=nbd --uri="$(uri "$ack")" --rw=randrw --rwmixread=30 \
    --bsrange=512-128k --bs_unaligned=1 --size=128M --io_size=96M --iodepth=16 --verify=crc32c \
    --verify_fatal=1 --verify_backlog=256 --fsync=64 --randseed=7 --output="$WORK/fio.$ack") ||
    fail "fio --verify on ack=$ack: $(tail -n 20 "$WORK/fio.$ack")"
done
stop_daemon
compare_sets
