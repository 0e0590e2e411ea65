#include "tools/nbd/exports.h"

namespace twofold::nbd {

ExportSource ExportsOf(Pool& pool) {
  return {[&pool](const std::string& name) { return pool.OpenMount(name); },
          [&pool] { return pool.ExportNames(); },
          static_cast<size_t>(pool.Info().buffer_pool_capacity_bytes)};
}

}  // namespace twofold::nbd
