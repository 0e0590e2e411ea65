#include "storage/runtime/frame_pool.h"

#include <array>
#include <new>

#include "storage/runtime/sanitizers.h"

namespace twofold {
namespace {

constexpr size_t kClassBytes = 64;
constexpr size_t kClasses = 32;                      // frames over 2 KiB go to malloc
constexpr size_t kMaxCachedBytes = size_t{1} << 20;  // kept per class

struct FreeNode {
  FreeNode* next;
};

class FreeLists {
 public:
  ~FreeLists() {
    for (FreeNode* head : heads_) {
      while (head != nullptr) {
        FreeNode* next = head->next;
        ::operator delete(head);
        head = next;
      }
    }
  }

  void* Take(size_t size_class) {
    FreeNode* node = heads_[size_class];
    if (node == nullptr) return ::operator new((size_class + 1) * kClassBytes);
    heads_[size_class] = node->next;
    --counts_[size_class];
    return node;
  }

  void Give(void* frame, size_t size_class) {
    if ((counts_[size_class] + 1) * (size_class + 1) * kClassBytes > kMaxCachedBytes) {
      ::operator delete(frame);
      return;
    }
    heads_[size_class] = new (frame) FreeNode{heads_[size_class]};
    ++counts_[size_class];
  }

 private:
  std::array<FreeNode*, kClasses> heads_{};
  std::array<size_t, kClasses> counts_{};
};

FreeLists& Lists() {
  thread_local FreeLists lists;
  return lists;
}

size_t ClassOf(size_t size) { return (size - 1) / kClassBytes; }

}  // namespace

void* AllocateFrame(size_t size) {
  if (kUnderSanitizer || ClassOf(size) >= kClasses) return ::operator new(size);
  return Lists().Take(ClassOf(size));
}

void FreeFrame(void* frame, size_t size) noexcept {
  if (kUnderSanitizer || ClassOf(size) >= kClasses) return ::operator delete(frame);
  Lists().Give(frame, ClassOf(size));
}

}  // namespace twofold
