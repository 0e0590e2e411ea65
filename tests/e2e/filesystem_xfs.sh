# mkfs, real files, snapshot, destruction, rollback and fsck of xfs on an export.
source "$(dirname "$0")/lib.sh"
source "$(dirname "$0")/lib_filesystem.sh"
filesystem_test "xfs" "mkfs.xfs -q -f" "xfs_repair -n" "-o nouuid"
