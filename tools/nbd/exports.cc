#include "tools/nbd/exports.h"

namespace twofold::nbd {

ExportSource ExportsOf(Pool& pool) {
  return {[&pool](const std::string& name) { return pool.OpenMount(name); },
          [&pool] { return pool.ExportNames(); }};
}

}  // namespace twofold::nbd
