// How RocksDB is set up for the extent map (M5, M9, M11), and what its errors mean.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "storage/map/rocks_store.h"

namespace rocksdb {
struct Options;
class Status;
}  // namespace rocksdb

namespace twofold {

rocksdb::Options MakeRocksOptions(const RocksStore::Options& options);

// The status of ours for one of RocksDB's that isn't OK; the text begins with `what`.
absl::Status FromRocksError(const rocksdb::Status& status, absl::string_view what);

}  // namespace twofold
