# mkfs, real files, snapshot, destruction, rollback and fsck of ext4 on an export.
source "$(dirname "$0")/lib.sh"
source "$(dirname "$0")/lib_filesystem.sh"
filesystem_test "ext4" "mkfs.ext4 -q -F" "e2fsck -fn" ""
