// Where coroutine frames come from: per-thread free lists by size class, so that a task costs a few
// instructions and not a trip to malloc. A frame must be freed on the thread that allocated it,
// which holds because a task never leaves its executor. Under AddressSanitizer it is plain malloc,
// so that a use after free is seen.
#pragma once

#include <cstddef>

namespace twofold {

// Memory for a frame of `size` bytes; ends the process if there is none.
void* AllocateFrame(size_t size);
void FreeFrame(void* frame, size_t size) noexcept;

}  // namespace twofold
