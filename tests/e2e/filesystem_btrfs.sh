# mkfs, real files, snapshot, destruction, rollback and fsck of btrfs on an export.
source "$(dirname "$0")/lib.sh"
source "$(dirname "$0")/lib_filesystem.sh"
filesystem_test "btrfs" "mkfs.btrfs -q -f" "btrfs check --readonly" ""
