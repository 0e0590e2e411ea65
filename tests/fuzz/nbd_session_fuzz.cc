// Whole NBD sessions: clients over a simulated network, the real server and sessions, a pool of two
// simulated replicas. The input says who connects, what is negotiated, which requests go out one
// behind another without waiting, and where in between bytes of any kind are sent, a client hangs
// up, a snapshot is made, the volume is rolled back under its clients, a replica fails, the network
// holds still, the server stops.
//
// Nothing may end the process or hold memory back. A client that keeps to the protocol gets one
// answer to each request, well-formed, with an error that the protocol knows, unless its connection
// was ended; and a read shows nothing that was never written there. Afterwards a new client is
// served as ever.
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "storage/base/bytes.h"
#include "storage/base/check.h"
#include "storage/base/log.h"
#include "tests/nbd/session_world.h"

namespace twofold::nbd {
namespace {

constexpr size_t kMaxClients = 3;
constexpr int kMaxSteps = 120;
constexpr uint64_t kGranule = 64;  // bytes; writes have whole ones
constexpr uint64_t kGranules = kVolumeBytes / kGranule;
constexpr uint64_t kTags = 63;
constexpr LogLevel kSilent{static_cast<int>(LogLevel::kError) + 1};

// An expectation that fails is a finding, as a check is.
class EndsTheProcess : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& result) override {
    TF_CHECK(!result.failed()) << result.file_name() << ":" << result.line_number() << ": "
                               << result.message();
  }
};

// Which values each granule was ever asked to have, but for 0.
using Written = std::array<uint64_t, kGranules>;

class Client {
 public:
  Client(SessionWorld* world, Written* written) : written_(*written), raw_(*world) {}

  RawClient& raw() { return raw_; }
  bool tame() const { return tame_; }
  // It sends what is no protocol, or its connection ends for a reason of its own: no promises.
  void SetWild() { tame_ = false; }
  void SetOpen(bool structured) {
    open_ = true;
    structured_ = structured;
  }
  bool open() const { return open_; }

  void Ask(uint16_t command, uint64_t offset, uint32_t length, uint16_t flags, uint8_t tag) {
    std::string payload;
    if (command == kCmdWrite) {
      payload.assign(length, static_cast<char>(tag));
      for (uint64_t at = offset; at < offset + length && at < kVolumeBytes; at += kGranule) {
        written_[at / kGranule] |= uint64_t{1} << tag;
      }
    }
    pending_[next_cookie_] = {command, offset, length};
    raw_.Send(RequestOf(command, next_cookie_++, offset, length, flags, payload));
  }

  // Takes the answers that are there; checks them.
  void TakeAnswers() {
    if (!tame_ || !open_) return;
    std::string& bytes = raw_.received();
    while (bytes.size() >= 16) {
      const uint64_t cookie = FromBe(bytes.substr(8, 8));
      const auto asked = pending_.find(cookie);
      TF_CHECK(asked != pending_.end()) << "an answer to nothing";
      const Asked request = asked->second;
      const size_t data = request.command == kCmdRead ? request.length : 0;
      const size_t length = ReplyBytes(bytes, data);
      if (length == 0 || bytes.size() < length) return;
      CheckReply(request, TakeReply(bytes, data));
    }
  }
  bool answered() const { return pending_.empty(); }

 private:
  struct Asked {
    uint16_t command = 0;
    uint64_t offset = 0;
    uint32_t length = 0;
    uint64_t got = 0;  // bytes, of a read in chunks
  };

  void CheckReply(const Asked& request, const ReplyMessage& reply) {
    static constexpr uint32_t kKnown[] = {0, 1, 5, 12, 22, 28, 75, 95, 108};
    bool known = false;
    for (const uint32_t error : kKnown) known |= error == reply.error;
    TF_CHECK(known) << reply.error;
    if (reply.error != 0) {
      TF_CHECK(reply.done);
    } else if (reply.type == -1) {
      TF_CHECK(request.command != kCmdRead || !structured_);
      if (request.command == kCmdRead) CheckData(request.offset, reply.payload);
    } else {
      CheckChunk(reply);
    }
    if (reply.done) pending_.erase(reply.cookie);
  }

  void CheckChunk(const ReplyMessage& reply) {
    TF_CHECK(structured_);
    Asked& request = pending_.at(reply.cookie);
    switch (reply.type) {
      case 0:
        TF_CHECK(reply.done && reply.payload.empty());
        break;
      case 1: {
        const uint64_t offset = FromBe(reply.payload.substr(0, 8));
        CheckWithin(request, offset, reply.payload.size() - 8);
        CheckData(offset, reply.payload.substr(8));
        request.got += reply.payload.size() - 8;
        break;
      }
      case 2:
        TF_CHECK_EQ(reply.payload.size(), 12u);
        CheckWithin(request, FromBe(reply.payload.substr(0, 8)),
                    FromBe(reply.payload.substr(8, 4)));
        request.got += FromBe(reply.payload.substr(8, 4));
        break;
      case 5:
        TF_CHECK_EQ(request.command, kCmdBlockStatus);
        TF_CHECK(reply.payload.size() >= 12 && reply.payload.size() % 8 == 4);
        break;
      default:
        TF_CHECK(false) << "chunk type " << reply.type;
    }
    // Of a read, every byte once.
    if (reply.done && request.command == kCmdRead) {
      TF_CHECK_EQ(request.got, request.length);
    }
  }

  static void CheckWithin(const Asked& request, uint64_t offset, uint64_t length) {
    TF_CHECK_EQ(request.command, kCmdRead);
    TF_CHECK(length > 0 && offset >= request.offset &&
             offset + length <= request.offset + request.length);
  }

  void CheckData(uint64_t offset, const std::string& data) const {
    for (size_t i = 0; i < data.size(); ++i) {
      const auto value = static_cast<unsigned char>(data[i]);
      const uint64_t granule = (offset + i) / kGranule;
      TF_CHECK(value == 0 || (value <= kTags && (written_[granule] >> value & 1) != 0))
          << "byte " << offset + i << " shows " << int{value};
    }
  }

  Written& written_;
  RawClient raw_;
  bool tame_ = true;
  bool open_ = false;
  bool structured_ = false;
  uint64_t next_cookie_ = 1;
  std::map<uint64_t, Asked> pending_;
};

class Script {
 public:
  explicit Script(uint8_t seed)
      : world_(OptionsOf(seed)),
        may_fill_up_(seed % 8 == 3),
        written_(std::make_unique<Written>()) {
    written_->fill(0);
  }

  void Play(ByteReader input) {
    for (int i = 0; i < kMaxSteps && input.remaining() >= 3 && !stopped_; ++i) Step(&input);
    world_.network().Release();
    for (auto& client : clients_) Finish(client.get());
    clients_.clear();
    if (!stopped_ && !may_fill_up_) ExpectServing(world_);
  }

 private:
  static SessionWorld::Options OptionsOf(uint8_t seed) {
    SessionWorld::Options options;
    options.seed = seed;
    // Small buffers on the way, so that answers back up.
    if (seed % 4 == 1) options.network.capacity_bytes = 4 << 10;
    if (seed % 8 == 3) options.replica.capacity_blocks = 64;
    return options;
  }

  void Step(ByteReader* input) {
    const uint8_t step = input->ReadU8();
    const uint8_t a = input->ReadU8();
    const uint8_t b = input->ReadU8();
    if (step % 16 == 0) return Connect(a, b);
    if (step % 16 >= 12) return ChangeTheWorld(step, a, b);
    if (clients_.empty()) Connect(7, 0);
    Client& client = *clients_[a % clients_.size()];
    switch (step % 16) {
      case 9:
        client.SetWild();
        return client.raw().Send(
            std::string(input->ReadString(std::min<size_t>(input->remaining(), 1 + b))));
      case 10: {
        // A request as it should be, but for what the input says is in it.
        client.SetWild();
        const uint64_t offset = input->ReadU64Be();
        const uint32_t length = input->ReadU32Be();
        const uint16_t flags = input->ReadU16Be();
        if (input->failed()) return;
        return client.raw().Send(RequestOf(b, 77, offset, length, flags));
      }
      case 11:
        if (b % 2 == 0) client.TakeAnswers();
        client.SetWild();
        return b % 4 < 2 ? client.raw().CloseSending() : client.raw().Close();
      default:
        return Ask(&client, step, b, input);
    }
  }

  void Connect(uint8_t how, uint8_t name) {
    if (clients_.size() == kMaxClients) return world_.Sleep(kNanosPerMilli * name);
    // Nobody gets through otherwise.
    world_.network().Release();
    held_ = false;
    clients_.push_back(std::make_unique<Client>(&world_, written_.get()));
    Client& client = *clients_.back();
    if (how % 8 == 0) return client.SetWild();  // the input shakes hands itself
    const bool structured = how % 2 == 1;
    client.raw().Greet();
    if (structured) client.raw().Ask(kOptStructuredReply);
    const std::string opened = name % 4 == 1 ? "vol@s" : "vol";
    if (how % 4 >= 2) client.raw().Ask(kOptSetMetaContext, MetaData(opened, {"base:allocation"}));
    if (client.raw().Ask(kOptGo, GoData(opened)).back().type == kRepAck) {
      client.SetOpen(structured);
    }
  }

  void Ask(Client* client, uint8_t step, uint8_t b, ByteReader* input) {
    static constexpr uint16_t kCommands[] = {kCmdRead,  kCmdWrite,       kCmdWrite,
                                             kCmdTrim,  kCmdWriteZeroes, kCmdFlush,
                                             kCmdCache, kCmdBlockStatus};
    if (!client->open()) return;
    const uint16_t command = kCommands[step / 16 % 8];
    if (command == kCmdFlush) return client->Ask(command, 0, 0, 0, 0);
    // Half of them in a few blocks, so that they meet; some end beyond the volume.
    uint64_t offset = input->ReadU8();
    if (b % 4 >= 2) offset = (offset * 256 + input->ReadU8()) % (kGranules + 8);
    const uint64_t granules = b % 16 == 5 ? 4096 : b % 4 == 1 ? 64 : 1 + b / 16;
    static constexpr uint16_t kFlags[] = {0, kFua, kNoHole, kDf, kReqOne, kFastZero, 0, 0};
    client->Ask(command, offset * kGranule, static_cast<uint32_t>(granules * kGranule),
                kFlags[step % 8], static_cast<uint8_t>(1 + writes_++ % kTags));
  }

  void ChangeTheWorld(uint8_t step, uint8_t a, uint8_t b) {
    switch (step % 16) {
      case 12:
        for (auto& client : clients_) client->TakeAnswers();
        return step >= 128 ? SleepLong(a) : world_.Sleep(int64_t{1000} * (a * 16 + b));
      case 13:
        held_ = b % 4 == 0;
        return held_ ? world_.network().Hold() : world_.network().Release();
      case 14:
        return Administer(a, b);
      default:
        if (step < 240) return;
        // Whoever is connected loses the connection.
        world_.network().Release();
        for (auto& client : clients_) client->SetWild();
        stopped_ = true;
        return world_.StopServer();
    }
  }

  // Long enough for the server to let go who is stuck. Nobody is who keeps to the protocol, unless
  // the network is.
  void SleepLong(uint8_t seconds) {
    for (auto& client : clients_) {
      if (held_) client->SetWild();
    }
    world_.Sleep(kNanosPerSecond * seconds);
  }

  void Administer(uint8_t a, uint8_t b) {
    world_.network().Release();
    held_ = false;
    TestPool& pool = world_.pool();
    switch (a % 4) {
      case 0:
        if (snapshot_) return;
        snapshot_ = true;
        return world_.MakeSnapshot("vol", "s");
      case 1: {
        if (!snapshot_) return;
        // Clients of what the volume was are sent away.
        for (auto& client : clients_) client->SetWild();
        const auto back = pool.Run(pool.pool().Rollback({"vol", "s"}, /*force=*/true));
        TF_CHECK(back.ok() || absl::IsResourceExhausted(back.status())) << back.status();
        return;
      }
      case 2:
        if (!failed_) pool.Call([&pool, b] { pool.replica(b % 2).FailNextAppend(); });
        failed_ = true;
        return;
      default: {
        // In one copy only: the other has it.
        const TimelineId timeline = pool.pool().FindVolume("vol")->timeline;
        pool.disks()[b % 2].bad_blocks.insert({timeline, BlockIndex(a / 4)});
        return;
      }
    }
  }

  void Finish(Client* client) {
    if (!client->tame() || !client->open()) return;
    const bool settled = world_.WaitFor([client] {
      client->TakeAnswers();
      return client->answered();
    });
    TF_CHECK(settled) << "requests without an answer"
                      << (client->raw().closed() ? ": the connection was closed" : "");
  }

  SessionWorld world_;
  const bool may_fill_up_;
  std::unique_ptr<Written> written_;
  std::vector<std::unique_ptr<Client>> clients_;
  uint64_t writes_ = 0;
  bool held_ = false;
  bool snapshot_ = false;
  bool failed_ = false;
  bool stopped_ = false;
};

void EndTheProcessOnFailures() {
  static const bool done = [] {
    testing::UnitTest::GetInstance()->listeners().Append(new EndsTheProcess);
    return true;
  }();
  (void)done;
}

}  // namespace
}  // namespace twofold::nbd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 4) return 0;
  twofold::nbd::EndTheProcessOnFailures();
  twofold::SetLogLevel(twofold::nbd::kSilent);
  const absl::Span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  twofold::nbd::Script(data[0]).Play(twofold::ByteReader(bytes.subspan(1)));
  return 0;
}
