#include "storage/base/prng.h"

#include <sys/random.h>

#include <cerrno>

namespace twofold {

uint64_t SecureRandom64() {
  uint64_t number = 0;
  ssize_t got = 0;
  do {
    got = getrandom(&number, sizeof(number), 0);
  } while (got < 0 && errno == EINTR);
  // With these arguments the call has no other way to fail: up to 256 bytes come whole
  // (getrandom(2)).
  TF_CHECK_EQ(got, sizeof(number)) << "getrandom, errno " << errno;
  return number;
}

}  // namespace twofold
